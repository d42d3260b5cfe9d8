"""The engine's events as messages of the wire."""

import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EndedEvent, EngineEvents, StartedEvent, TokenLogprob
from worker.events import (
    ended_to_proto,
    logprobs_to_proto,
    only_open,
    outcome_label,
    started_to_proto,
)

BROKEN = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken")


def test_a_start_carries_all_its_numbers() -> None:
    """Every field of the event is in the message, under the handle given."""
    message = started_to_proto(StartedEvent(1, 2, 3, 4, 5), 9)

    assert [9, 2, 3, 4, 5] == [value for _, value in message.ListFields()]


@pytest.mark.parametrize(
    ("event", "label"),
    [
        (EndedEvent(1, finish_reason=FINISH_REASON_STOP, stop_token_id=0, decode_ms=7), "stop"),
        (EndedEvent(1, finish_reason=FINISH_REASON_LENGTH, decode_ms=7), "length"),
    ],
)
def test_an_end_names_its_reason_and_stop_token(event: EndedEvent, label: str) -> None:
    """The stop token id is set where there is one, 0 included, and only there."""
    message = ended_to_proto(event, 9)

    assert (9, event.finish_reason, 7) == (message.handle, message.finish_reason, message.decode_ms)
    assert (event.stop_token_id is not None) == message.HasField("stop_token_id")
    assert not message.HasField("failure")
    assert label == outcome_label(event)


def test_a_failure_is_a_failure_and_no_finish() -> None:
    """Reason and message are there; no finish reason is."""
    message = ended_to_proto(EndedEvent(1, error=BROKEN), 9)

    assert "failure" == message.WhichOneof("outcome")
    assert "broken" == message.failure.message
    assert "engine_failure" == outcome_label(EndedEvent(1, error=BROKEN))


def test_log_probabilities_are_flat_arrays() -> None:
    """Alternatives follow token after token, counted by top_counts."""
    entries = [TokenLogprob(-0.5, ((1, -0.5), (2, -1.5))), TokenLogprob(-2.0)]
    message = logprobs_to_proto(9, entries)

    assert (9, [-0.5, -2.0], [2, 0], [1, 2], [-0.5, -1.5]) == (
        message.handle,
        list(message.logprobs),
        list(message.top_counts),
        list(message.top_token_ids),
        list(message.top_logprobs),
    )


def test_only_what_is_open_passes_and_strays_are_counted() -> None:
    """Entries of gone outputs are left out with their tokens; the others keep theirs."""
    events = EngineEvents(
        started=[StartedEvent(1, 1, 0, 0, 0), StartedEvent(2, 1, 0, 0, 0)],
        keys=[1, 2, 3],
        counts=[2, 1, 2],
        token_ids=[11, 12, 21, 31, 32],
        logprobs={1: [], 2: []},
        ended=[EndedEvent(1), EndedEvent(2)],
    )
    kept, strays = only_open(events, {2: None, 3: None})

    assert 3 == strays
    assert ([2], [2], [2]) == (
        [event.key for event in kept.started],
        [event.key for event in kept.ended],
        list(kept.logprobs),
    )
    assert ([2, 3], [1, 2], [21, 31, 32]) == (kept.keys, kept.counts, kept.token_ids)
