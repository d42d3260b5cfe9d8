"""Patches of begin, submission, reports and end: behaviours 1 to 3, 14 to 18 and 20."""

from collections.abc import Sequence

from tests.contract.engine_tensorrt_llm.patch import HERE, UNIT, Patch

_SURFACE = f"{HERE}/test_surface.py"
_REPORTS = f"{HERE}/test_reports.py"
_ARGUMENTS = f"{UNIT}/test_llm_arguments.py"
_ENGINE = f"{UNIT}/test_engine.py"

SURFACE_PATCHES: Sequence[Patch] = (
    Patch(
        1,
        "the thread in which the constructor blocks",
        "lifetime.py",
        "asyncio.create_task(asyncio.to_thread(library.llm, **arguments))",
        "asyncio.get_running_loop().create_future()\n"
        "    loading.set_result(library.llm(**arguments))",
        (f"{_SURFACE}::test_the_constructor_blocks_a_thread_only",),
    ),
    Patch(
        1,
        "the sentence for what the constructor raises",
        "lifetime.py",
        "if error is not None:",
        "if error is None and arguments is None:",
        (f"{_ENGINE}::test_a_model_that_cannot_be_loaded", f"{_ENGINE}::test_no_gpu"),
    ),
    Patch(
        1,
        "the look at which fields a configuration has",
        "llm_arguments.py",
        "        if name in kind.model_fields:\n            return name",
        "        return name",
        (f"{_ARGUMENTS}::test_a_draft_model",),
    ),
    Patch(
        2,
        "the number of tokens, whose default is 32",
        "sampling_arguments.py",
        '        "max_tokens": request.max_tokens - done,\n',
        "",
        (f"{_SURFACE}::test_a_build_that_checks_nothing_answers_alike",),
    ),
    Patch(
        2,
        "the fan-out of several greedy outputs",
        "sampling_arguments.py",
        "return request.n > 1 and request.sampling.is_greedy",
        "return False",
        (
            f"{_SURFACE}::test_a_build_that_checks_nothing_answers_alike",
            f"{_ENGINE}::test_greedy_outputs_are_one",
        ),
    ),
    Patch(
        2,
        "the class of errors from building parameters",
        "failures.py",
        "isinstance(error, ValueError | TypeError | IndexError)",
        "isinstance(error, TypeError | IndexError)",
        (f"{_SURFACE}::test_what_the_librarys_own_checks_refuse_is_the_callers",),
    ),
    Patch(
        3,
        "the call on the loop's own thread",
        "serving.py",
        "result = self._llm.generate_async(",
        "from concurrent.futures import ThreadPoolExecutor\n"
        "        def elsewhere(*inputs, **told):\n"
        "            return ThreadPoolExecutor(1).submit(\n"
        "                self._llm.generate_async, *inputs, **told\n"
        "            ).result()\n"
        "        result = elsewhere(",
        (f"{_SURFACE}::test_requests_are_submitted_on_the_loop",),
    ),
    Patch(
        3,
        "fresh parameters for each request",
        "serving.py",
        "sampling_params=self._library.sampling(sampling_arguments(request, self._context))",
        "sampling_params=self.__dict__.setdefault('_kept', self._library.sampling("
        "sampling_arguments(request, self._context)))",
        (f"{_ENGINE}::test_parameters_are_fresh_for_each_request",),
    ),
    Patch(
        3,
        "the refusal of an empty prompt",
        "request_checks.py",
        "if not request.prompt_token_ids:",
        "if request.prompt_token_ids is None:",
        (f"{_SURFACE}::test_an_empty_prompt_does_not_reach_the_library",),
    ),
    Patch(
        3,
        "the refusal of prompts that no step holds",
        "request_checks.py",
        "prompt_tokens=None if settings.chunked_prefill else settings.max_num_tokens",
        "prompt_tokens=None",
        (f"{_ENGINE}::test_long_prompts",),
    ),
    Patch(
        3,
        "the meaning of a shutdown at submission",
        "failures.py",
        'if "shutting down" in str(error) or isinstance(error, AttributeError):',
        'if "shut down already" in str(error):',
        (f"{_SURFACE}::test_a_submission_to_a_library_that_was_shut_down",),
    ),
    Patch(
        14,
        "the reading on after an iterator's end",
        "load.py",
        "        while True:\n            await self._responses.wait()",
        "        for _ in range(1):\n            await self._responses.wait()",
        (f"{_REPORTS}::test_statistics_go_on_after_a_silence",),
    ),
    Patch(
        14,
        "the doubt whether a key is there",
        "load.py",
        "    if not isinstance(cache, Mapping):\n        return None\n",
        "    assert isinstance(cache, Mapping), 'no kvCacheStats'\n",
        (f"{UNIT}/test_load.py",),
    ),
    Patch(
        15,
        "the refusal of guides without a backend",
        "honoured.py",
        '"none": frozenset(),',
        '"none": _COMMON_GUIDES | {"guide.grammar", "guide.structural_tag"},',
        (f"{_REPORTS}::test_without_a_backend_guides_are_refused_by_name",),
    ),
    Patch(
        15,
        "the meaning of an error of guided decoding",
        "failures.py",
        '    ("Guided decoding error", _INVALID, "guide"),\n',
        "",
        (f"{UNIT}/test_faults.py::test_the_callers_own_mistakes",),
    ),
    Patch(
        16,
        "the report of what the default sampler ignores",
        "honoured.py",
        'if settings.sampler == "TRTLLMSampler":',
        "if settings.sampler:",
        (f"{_REPORTS}::test_what_the_default_sampler_ignores_is_refused_by_name",),
    ),
    Patch(
        16,
        "what the other sampler is told",
        "sampling_arguments.py",
        "if not context.uses_cpp_sampler:",
        "if context:",
        (f"{_REPORTS}::test_what_the_other_sampler_honours_reaches_it",),
    ),
    Patch(
        17,
        "the look at an adapter's path",
        "llm_arguments.py",
        "if not settings.lora.path.is_dir():",
        "if not settings.lora.name:",
        (f"{_SURFACE}::test_an_adapters_path_is_looked_at_before_the_library_does",),
    ),
    Patch(
        17,
        "the look at the executor's flag",
        "watchdog.py",
        "if not self._is_healthy():",
        "if self._is_healthy is None:",
        (f"{_SURFACE}::test_an_executor_that_is_no_more",),
    ),
    Patch(
        18,
        "the bound on waiting for the end",
        "lifetime.py",
        "await asyncio.wait_for(ended.wait(), seconds)",
        "await ended.wait()",
        (f"{_SURFACE}::test_a_shutdown_that_hangs_is_left_behind",),
    ),
    Patch(
        18,
        "the exit of a process that a hanging end would keep",
        "lifetime.py",
        "        last.start()\n",
        "",
        (f"{_ENGINE}::test_a_hanging_end",),
    ),
    Patch(
        20,
        "the probe of a keyword before it is passed",
        "serving.py",
        'if request.cache_salt and "cache_salt" in self._library.keywords:',
        "if request.cache_salt:",
        (f"{_SURFACE}::test_only_keywords_of_this_build_are_passed",),
    ),
    Patch(
        20,
        "the probe by signature",
        "library.py",
        "frozenset(name for name in _PROBED if name in parameters)",
        "frozenset(name for name in _PROBED if parameters)",
        (
            f"{_SURFACE}::test_only_keywords_of_this_build_are_passed",
            f"{_ENGINE}::test_a_build_without_a_keyword",
        ),
    ),
)
