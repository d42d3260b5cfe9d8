"""Patches of how a result is read: behaviours 4 to 9, 13 and 19."""

from collections.abc import Sequence

from tests.contract.engine_tensorrt_llm.patch import HERE, UNIT, Patch

_RESULTS = f"{HERE}/test_results.py"
_FAULTS = f"{UNIT}/test_faults.py"
_LOGPROBS = f"{UNIT}/test_logprobs.py"

RESULT_PATCHES: Sequence[Patch] = (
    Patch(
        4,
        "the cursor into lists that are cumulative",
        "cursor.py",
        "begin = self.num_sent",
        "begin = 0",
        (f"{_RESULTS}::test_tokens_are_told_as_they_come",),
    ),
    Patch(
        4,
        "the steps: to await the result is to drain it",
        "running_request.py",
        "await self._result.__anext__()",
        "await self._result",
        (f"{_RESULTS}::test_tokens_are_told_as_they_come",),
    ),
    Patch(
        4,
        "the wish for ids instead of text",
        "sampling_arguments.py",
        '"detokenize": False',
        '"detokenize": True',
        (f"{_RESULTS}::test_tokens_are_told_as_they_come",),
    ),
    Patch(
        5,
        "several tokens of one step",
        "cursor.py",
        "output.token_ids[begin : self._max_tokens]",
        "output.token_ids[begin : min(self._max_tokens, begin + 1)]",
        (f"{_RESULTS}::test_portions_do_not_matter",),
    ),
    Patch(
        5,
        "an end in a step without tokens",
        "running_request.py",
        "if delta.token_ids or delta.end is not None:",
        "if delta.token_ids:",
        (f"{_RESULTS}::test_portions_do_not_matter",),
    ),
    Patch(
        6,
        "the cursor that knows stale differences",
        "cursor.py",
        "output.token_ids[begin : self._max_tokens]",
        "output.token_ids_diff[: self._max_tokens - begin]",
        (f"{_RESULTS}::test_outputs_of_one_request_are_kept_apart",),
    ),
    Patch(
        6,
        "an output's end before the library names it",
        "cursor.py",
        "if self._stops.isdisjoint(token_ids):",
        "if True:",
        (f"{_RESULTS}::test_outputs_of_one_request_are_kept_apart",),
    ),
    Patch(
        7,
        "the end token's return",
        "cursor.py",
        "            token_ids.append(named)",
        "            pass",
        (f"{_RESULTS}::test_the_token_that_ended_it_is_the_last",),
    ),
    Patch(
        7,
        "the cut of log probabilities to the ids",
        "cursor.py",
        "told += [None] * (len(token_ids) - len(told))",
        "token_ids = token_ids[: len(told)]",
        (f"{_RESULTS}::test_the_token_that_ended_it_is_the_last",),
    ),
    Patch(
        8,
        "the number that asks for the drawn token alone",
        "sampling_arguments.py",
        "max(request.logprobs, 1)",
        "request.logprobs",
        (f"{_LOGPROBS}::test_one_entry_a_token",),
    ),
    Patch(
        8,
        "the clamp of minus infinity",
        "cursor.py",
        "if math.isnan(value) or value < LEAST_LOGPROB:",
        "if math.isnan(value):",
        (f"{_LOGPROBS}::test_minus_infinity_is_clamped",),
    ),
    Patch(
        8,
        "the value of a drawn token that is not told",
        "cursor.py",
        "values.get(token_id, LEAST_LOGPROB)",
        "values[token_id]",
        (f"{_LOGPROBS}::test_a_missing_drawn_token",),
    ),
    Patch(
        8,
        "bare numbers",
        "cursor.py",
        "if isinstance(entry, float | int):",
        "if entry is ...:",
        (f"{_LOGPROBS}::test_bare_numbers",),
    ),
    Patch(
        9,
        "an end without a reason",
        "cursor.py",
        "        if reason is None:\n",
        "        if reason == 'unset':\n",
        (f"{_FAULTS}::test_an_end_without_a_reason",),
    ),
    Patch(
        9,
        "ends that nobody asked for",
        "cursor.py",
        "        return CursorEnd(error=_ended_by_engine(reason))",
        "        return CursorEnd(FINISH_REASON_STOP)",
        (f"{_FAULTS}::test_ends_that_nobody_asked_for",),
    ),
    Patch(
        13,
        "the tokens that came from the cache",
        "running_request.py",
        "cached = num_prompt if is_copy else self._result.cached_tokens",
        "cached = num_prompt if is_copy else 0",
        (f"{_RESULTS}::test_cached_tokens_are_those_of_the_first_response",),
    ),
    Patch(
        13,
        "the salt of a tenant's blocks",
        "serving.py",
        'keywords = {**keywords, "cache_salt": request.cache_salt}',
        "keywords = {**keywords}",
        (f"{_RESULTS}::test_cached_tokens_are_those_of_the_first_response",),
    ),
    Patch(
        19,
        "times of its own clock: the library's come with the last response, where asked for",
        "running_request.py",
        "prefill_ms=_milliseconds(self._loop.time() - self._handed_at)",
        "prefill_ms=_milliseconds(self._result.outputs[0].request_perf_metrics"
        ".timing_metrics.first_token_time.total_seconds())",
        (f"{_RESULTS}::test_times_are_taken_here",),
    ),
)
