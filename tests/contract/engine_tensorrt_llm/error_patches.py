"""Patches of aborts and errors: behaviours 10 to 12."""

from collections.abc import Sequence

from tests.contract.engine_tensorrt_llm.patch import HERE, UNIT, Patch

_ENDS = f"{HERE}/test_aborts_and_errors.py"
_ABORTS = f"{UNIT}/test_aborts.py"

ERROR_PATCHES: Sequence[Patch] = (
    Patch(
        10,
        "the bound on waiting for an abort's answer",
        "serving.py",
        "self._loop.call_later(self._settings.silence_after_abort_seconds, running.task.cancel)",
        "pass",
        (f"{_ENDS}::test_a_request_that_waits_inside_vanishes",),
    ),
    Patch(
        10,
        "the rate of aborts",
        "abort_queue.py",
        "while self._waiting and len(self._told_at) < self._per_second:",
        "while self._waiting:",
        (f"{_ABORTS}::test_only_so_many_in_a_second_oldest_first",),
    ),
    Patch(
        10,
        "the switch that tells of none",
        "abort_queue.py",
        "if self._is_on and not running.is_aborted:",
        "if not running.is_aborted:",
        (f"{_ABORTS}::test_the_kill_switch",),
    ),
    Patch(
        10,
        "the rest that those have which ended by themselves",
        "serving.py",
        "if not running.is_live and not running.is_finished:",
        "if not running.is_live:",
        (f"{_ENDS}::test_an_abort_of_what_has_ended_is_nothing",),
    ),
    Patch(
        11,
        "the abort of what was dropped",
        "running_request.py",
        "            self._result.abort()",
        "            pass",
        (f"{_ENDS}::test_to_drop_a_result_is_not_to_end_it",),
    ),
    Patch(
        11,
        "the abort of what was ended here alone",
        "serving.py",
        "if not running.is_live and not running.is_finished:",
        "if running.is_finished and running.is_live:",
        (f"{_ENDS}::test_what_was_ended_here_is_ended_there",),
    ),
    Patch(
        12,
        "the last step of a result that raised",
        "running_request.py",
        "            except StopAsyncIteration:\n                break\n",
        "            except StopAsyncIteration:\n                break\n"
        "            except RuntimeError:\n                continue\n",
        (f"{_ENDS}::test_a_result_that_raised_is_not_stepped_again",),
    ),
    Patch(
        12,
        "the end of those who wait beside a fatal error",
        "serving.py",
        "        self._refusal = error\n        self._end_all(error)\n",
        "        self._refusal = error\n",
        (f"{_ENDS}::test_what_is_fatal_ends_all",),
    ),
    Patch(
        12,
        "the watch for a death that nobody is told of",
        "watchdog.py",
        "elif self._is_busy() and self._loop.time() - self._fed_at >= self._seconds:",
        "elif self._seconds < 0:",
        (f"{_ENDS}::test_what_is_fatal_ends_all",),
    ),
    Patch(
        12,
        "the difference between a request's failure and the engine's",
        "failures.py",
        "    if not isinstance(error, request_error):\n        return Verdict(fatal_error(error), "
        "is_fatal=True)\n",
        "",
        (f"{UNIT}/test_faults.py::test_anything_else_ends_the_engine",),
    ),
    Patch(
        12,
        "the doubt where all fail alike",
        "serving.py",
        "        if verdict.is_suspect:\n",
        "        if verdict.is_fatal:\n",
        (f"{_ENDS}::test_a_fault_of_all_is_the_engines",),
    ),
    Patch(
        12,
        "ids for stops",
        "sampling_arguments.py",
        '"stop_token_ids": sorted(ends.stops(request) - {ends.main}) or None,',
        '"stop": [str(i) for i in sorted(ends.stops(request) - {ends.main})] or None,',
        (f"{_ENDS}::test_stops_are_ids_so_none_fails_unprocessed",),
    ),
)
