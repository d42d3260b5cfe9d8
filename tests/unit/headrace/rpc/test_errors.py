"""One error in all its forms, there and back."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import (
    ERROR_TABLE,
    Reason,
    ServiceError,
    error_from_failure,
    error_from_rpc,
    failure_from_error,
    reason_label,
    status_from_error,
    status_message,
    trailing_status,
    translated_rpc_errors,
)

ENGINE_FAILURE = errors_pb2.ERROR_REASON_ENGINE_FAILURE


def rpc_error(
    code: grpc.StatusCode, trailing: tuple[tuple[str, bytes], ...] = (), details: str = "details"
) -> grpc.aio.AioRpcError:
    """A peer's status as the client library raises it."""
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details
    )


@pytest.mark.parametrize("reason", ERROR_TABLE)
@pytest.mark.parametrize("param", [None, "", "sampling.top_p"])
def test_an_error_survives_both_wires(reason: Reason, param: str | None) -> None:
    """Reason, message and parameter are the same behind a Failure and behind a status."""
    error = ServiceError(reason, "The sentence.", param)
    rpc = rpc_error(error.row.grpc_code, trailing_status(error))
    forms = (error_from_failure(failure_from_error(error)), error_from_rpc(rpc, peer="p"))

    for read in forms:
        assert (reason, "The sentence.", param) == (read.reason, read.message, read.param)


@pytest.mark.parametrize(
    ("seconds", "read"), [(None, None), (0.0015, 0.002), (30.0, 30.0), (1e9, (2**32 - 1) / 1000)]
)
def test_the_time_to_wait_survives_both_wires(seconds: float | None, read: float | None) -> None:
    """In a Failure in milliseconds, rounded up and bounded; in a status as RetryInfo, exactly."""
    error = ServiceError(
        errors_pb2.ERROR_REASON_RATE_LIMITED, "Later.", retry_after_seconds=seconds
    )
    rpc = rpc_error(error.row.grpc_code, trailing_status(error))

    assert error_from_failure(failure_from_error(error)).retry_after_seconds == read
    assert error_from_rpc(rpc, peer="p").retry_after_seconds == pytest.approx(seconds)


def test_a_reason_unknown_here_is_an_engine_failure() -> None:
    """A newer peer's reason, and one that is missing, are read as engine failures."""
    newer = errors_pb2.Failure(reason=999, message="m")
    missing = errors_pb2.Failure(message="m")
    info = error_details_pb2.ErrorInfo(reason="ERROR_REASON_OF_TOMORROW", domain="headrace")
    status = status_pb2.Status(code=13, message="m")
    status.details.add().Pack(info)
    rpc = rpc_error(
        grpc.StatusCode.INTERNAL, (("grpc-status-details-bin", status.SerializeToString()),)
    )

    for error in (
        error_from_failure(newer),
        error_from_failure(missing),
        error_from_rpc(rpc, peer="p"),
    ):
        assert (ENGINE_FAILURE, "m") == (error.reason, error.message)
    assert "unknown" == reason_label(999)
    assert ERROR_TABLE[ENGINE_FAILURE] == ServiceError(999, "m").row


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff",
        b"",
        status_pb2.Status(code=5, message="m").SerializeToString(),
        status_pb2.Status(
            details=[Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"")]
        ).SerializeToString(),
        status_pb2.Status(
            details=[Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"")]
        ).SerializeToString(),
    ],
)
def test_a_status_that_is_not_ours_falls_back_on_its_code(raw: bytes) -> None:
    """Garbage, emptiness and strangers' details do not hide the code and who said it."""
    rpc = rpc_error(grpc.StatusCode.UNAVAILABLE, (("grpc-status-details-bin", raw),))
    error = error_from_rpc(rpc, peer="worker w")

    assert errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE == error.reason
    assert "worker w: details" == error.message


def test_a_status_without_details_names_its_code() -> None:
    """The message is never empty."""
    error = error_from_rpc(rpc_error(grpc.StatusCode.ABORTED, details=""), peer="p")

    assert "p: ABORTED" == error.message


@pytest.mark.parametrize("text", ["x", "ü", "😀"])
def test_a_status_carries_at_most_a_thousand_bytes_of_message(text: str) -> None:
    """Whole characters, and a mark that something is missing; shorter messages stay as they are."""
    long = ServiceError(ENGINE_FAILURE, text * 100_000)
    cut = status_message(long)

    assert cut == status_from_error(long).message
    assert 996 <= len(cut.removesuffix("…").encode()) <= 1000
    assert cut.removesuffix("…") == text * (len(cut) - 1)
    assert failure_from_error(long).message == cut
    assert text * 250 == status_message(ServiceError(ENGINE_FAILURE, text * 250))


def test_the_translation_names_the_peer() -> None:
    """Within the context a peer's status is raised as the error that it stands for."""
    with pytest.raises(ServiceError, match="tokenizer t: details") as caught:  # noqa: SIM117
        with translated_rpc_errors("tokenizer t"):
            raise rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED)

    assert errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED == caught.value.reason
    assert "deadline_exceeded" == caught.value.label
