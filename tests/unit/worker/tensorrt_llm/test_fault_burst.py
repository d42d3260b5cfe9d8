"""Which failures are one failure of the engine."""

import asyncio

import pytest

from worker.engine.tensorrt_llm.fault_burst import FaultBurst

# Requests are told apart, and nothing else of them is looked at.
A, B, C = object(), object(), object()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.tensorrt_llm.fault_burst._WINDOW_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("running", "failures", "is_burst"),
    [
        ([A, B], [(A, "x"), (B, "x")], True),
        ([], [(A, "x"), (B, "x")], True),
        ([A, B, C], [(A, "x"), (B, "x")], False),
        ([A, B], [(A, "x"), (B, "y")], False),
        ([A], [(A, "x")], False),
    ],
)
async def test_all_that_ran_together_failed_alike(
    running: list[object], failures: list[tuple[object, str]], is_burst: bool
) -> None:
    """One that goes on, other words, or a single request are no sign."""
    told: list[str] = []
    burst = FaultBurst(told.append)
    for failed, message in failures:
        burst.note(failed, message, running)  # type: ignore[arg-type] # see above
    judged = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, judged.set_result, None)
    await judged

    assert told == (["x"] if is_burst else [])


async def test_a_closed_one_judges_no_more() -> None:
    """The engine has ended."""
    told: list[str] = []
    burst = FaultBurst(told.append)
    for failed in (A, B):
        burst.note(failed, "x", [A, B])  # type: ignore[list-item,arg-type] # see above
    burst.close()
    judged = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, judged.set_result, None)
    await judged

    assert told == []
