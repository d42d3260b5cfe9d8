"""Behaviours 15 and 17: guides, and LoRA adapters."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.lora_adapters import write_adapter
from tests.support.tensorrt_llm import importable
from tests.support.tokenizer_models import train_tokenizer
from tests.unit.support.tensorrt_llm.conftest import Opener

with importable():
    from tensorrt_llm.executor.request import LoRARequest
    from tensorrt_llm.executor.utils import RequestError
    from tensorrt_llm.llmapi import GuidedDecodingParams


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's files, enough for guides."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer()
    size = len(tokenizer["model"]["vocab"])
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {"vocab_size": size, "eos_token_id": 0, "max_position_embeddings": 1024}
    (path / "config.json").write_text(json.dumps(config))
    return path


GUIDES = [
    ({"json": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}}, "["),
    ({"json_object": True}, "{"),
    ({"regex": "(ab){2,5}"}, "abab"),
    (
        {
            "structural_tag": json.dumps(
                {"structures": [{"begin": "<f>", "schema": {}, "end": "</f>"}], "triggers": ["<f"]}
            )
        },
        "",
    ),
]


@pytest.mark.parametrize("backend", ["xgrammar", "llguidance"])
@pytest.mark.parametrize(("guide", "begin"), GUIDES)
async def test_behaviour_15_guides_are_followed(
    opened: Opener, folder: Path, guide: dict[str, Any], begin: str, backend: str
) -> None:
    """What comes is what the guide allows; structural tags are xgrammar's alone."""
    here = opened({"model": None}, path=folder, guided_decoding_backend=backend)
    params = GuidedDecodingParams(**guide)
    result = here.ask([5, 6], guided_decoding=params, ignore_eos=False, detokenize=True)
    if "structural_tag" in guide and backend == "llguidance":
        with pytest.raises(RequestError, match=r"Guided decoding error: .*structural_tag"):
            await result
    else:
        assert (await result).outputs[0].text.startswith(begin[:8])


@pytest.mark.parametrize("drops", [True, False])
async def test_behaviour_15_without_a_backend_guides_are_dropped(
    opened: Opener, drops: bool
) -> None:
    """In silence: the ids are those without a guide; switched off, it is an error."""
    here = opened({"drops_guides_without_backend": drops})
    result = here.ask(guided_decoding=GuidedDecodingParams(regex="yes|no"))
    if drops:
        assert (await result).outputs[0].token_ids == (await here.ask()).outputs[0].token_ids
    else:
        with pytest.raises(RequestError, match="Guided decoding error"):
            await result


@pytest.mark.parametrize(
    ("switches", "guide", "message"),
    [
        ({}, {"regex": "("}, "Guided decoding error: "),
        ({}, {"json": "{"}, "Guided decoding error: "),
        ({}, {"json": "[" * 100_000}, "Guided decoding error: "),
        ({}, {"grammar": 'start: "lark is not its language"'}, "Guided decoding error: "),
        ({}, {"structural_tag": '{"triggers": ["<a"]}'}, "Guided decoding error: "),
        ({"guide_error": "no such mask"}, {"regex": "a"}, "Guided decoding error: no such mask"),
    ],
)
async def test_behaviour_15_a_bad_guide_is_one_request_s(
    opened: Opener, folder: Path, switches: dict[str, Any], guide: dict[str, Any], message: str
) -> None:
    """RequestError; the engine goes on."""
    here = opened({"model": None, **switches}, path=folder, guided_decoding_backend="xgrammar")
    with pytest.raises(RequestError, match=message):
        await here.ask([5], guided_decoding=GuidedDecodingParams(**guide))

    assert (await here.ask([5])).finished


@pytest.mark.parametrize("checks", [True, False])
async def test_behaviour_17_adapters_are_paths(
    opened: Opener, tmp_path: Path, checks: bool
) -> None:
    """A path that does not exist, the default among them, is a ValueError; an id separates."""
    opened({"checks_lora_path": checks})
    if checks:
        for path in ("", str(tmp_path / "none")):
            with pytest.raises(ValueError, match="does not exist"):
                LoRARequest("a", 1, path)
    else:
        assert LoRARequest("a", 1).name == "a"


@pytest.mark.parametrize("configured", [True, False])
async def test_behaviour_17_adapters_are_numbers(
    opened: Opener, tmp_path: Path, configured: bool
) -> None:
    """What was loaded first under a number stays; without a LoraConfig none is looked at."""
    paths = [str(write_adapter(tmp_path / name)) for name in ("a", "b")]
    modules = {"lora_config": {"lora_target_modules": ["attn_q"]}} if configured else {}
    here = opened(**modules)
    prompt = list(range(100, 200))
    adapters = [
        None,
        LoRARequest("a", 1, paths[0]),
        LoRARequest("b", 1, paths[1]),
        LoRARequest("b", 2, paths[1]),
    ]
    results = [await here.ask(prompt, lora_request=one) for one in adapters]
    ids = [result.outputs[0].token_ids for result in results]
    cached = [result.cached_tokens for result in results]

    assert cached == ([0, 0, 96, 0] if configured else [0, 96, 96, 96])
    assert ids[1] == ids[2]
    assert len({tuple(one) for one in ids}) == (3 if configured else 1)


async def test_behaviour_17_adapters_that_cannot_be_loaded(opened: Opener, tmp_path: Path) -> None:
    """One request's error; a LoraConfig that names no module and not one folder is everybody's."""
    one = str(write_adapter(tmp_path / "a"))
    here = opened(lora_config={"lora_dir": [one]})
    with pytest.raises(RequestError, match="Failed to load LoRA"):
        await here.ask([5], lora_request=LoRARequest("b", 2, str(tmp_path)))
    assert (await here.ask([5], lora_request=LoRARequest("a", 1, one))).finished
    for folders in ([], [one, one]):
        with pytest.raises(AssertionError, match="at least one lora target module"):
            opened(lora_config={"lora_dir": folders})
