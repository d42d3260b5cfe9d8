"""Why an output ended, as OpenAI says it: one pure function."""

from headrace.client.answers import Finish
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP, FinishReason


def finish_reason(*, stop_string_hit: bool, worker: "FinishReason.ValueType") -> Finish:
    """The tokenizer's stop wins, then the worker's reason; see protos/README.md, "Finish reason".

    The end that a stop string makes is a stop even where the same token reached max_tokens.
    """
    if stop_string_hit or worker == FINISH_REASON_STOP:
        return "stop"
    return "length"
