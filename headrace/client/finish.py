"""Why an output ended: as OpenAI says it, and what error a worker's word for it is."""

from headrace.client.answers import Finish
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP, FinishReason
from headrace.rpc.errors import ServiceError, error_from_failure
from headrace.worker.v1.generation_pb2 import Terminal


def finish_reason(*, stop_string_hit: bool, worker: "FinishReason.ValueType") -> Finish:
    """The tokenizer's stop wins, then the worker's reason; see protos/README.md, "Finish reason".

    The end that a stop string makes is a stop even where the same token reached max_tokens.
    """
    if stop_string_hit or worker == FINISH_REASON_STOP:
        return "stop"
    return "length"


def terminal_error(terminal: Terminal) -> ServiceError:
    """What a terminal says that is no known end."""
    if terminal.HasField("failure"):
        return error_from_failure(terminal.failure)
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        f"The worker ended the answer for a reason that is not known here: "
        f"{terminal.finish_reason}.",
    )
