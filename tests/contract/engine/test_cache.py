"""Reuse of prompts, where an engine caches."""

import pytest

from tests.contract.engine.subject import Subject

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_cached_tokens_are_whole_blocks(subject: Subject) -> None:
    """The second time all full blocks before the last token are reused, and counted as such."""
    prompt = subject.prompt(100, seed=11)
    size = subject.engine.info.block_size
    answers = [
        await subject.generate(prompt, max_tokens=3, ignore_eos=True, cache_salt="blocks")
        for _ in range(2)
    ]

    cached = [answer.started.cached_prompt_tokens for answer in answers]
    assert cached == [0, 99 // size * size if subject.has_cache else 0]
    assert answers[0].token_ids == answers[1].token_ids


async def test_a_salt_separates(subject: Subject) -> None:
    """The same prompt shares nothing with another salt, and what it can with its own."""
    prompt = subject.prompt(100, seed=12)
    cached = [
        (await subject.generate(prompt, max_tokens=1, cache_salt=salt)).started.cached_prompt_tokens
        for salt in ("tenant a", "tenant b", "tenant a")
    ]

    assert cached[:2] == [0, 0]
    assert (cached[2] > 0) == subject.has_cache


async def test_prefilled_tokens_are_those_not_cached(subject: Subject) -> None:
    """What the engine says that it read is the prompt without what came from the cache."""
    prompt = subject.prompt(150, seed=13)
    for _ in range(2):
        before = subject.engine.load.prefilled_tokens
        answer = await subject.generate(prompt, max_tokens=1, cache_salt="prefilled")
        read = subject.engine.load.prefilled_tokens - before

        assert read == len(prompt) - answer.started.cached_prompt_tokens
