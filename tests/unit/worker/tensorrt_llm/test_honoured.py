"""What is promised is what this build does, not what it accepts."""

import pytest

from worker.engine.tensorrt_llm.honoured import honoured_fields
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings
from worker.request_mapping import OPTIONAL_FIELDS

IGNORED = {
    "sampling.min_p",
    "sampling.presence_penalty",
    "sampling.frequency_penalty",
    "sampling.repetition_penalty",
    "sampling.seed",
}
GUIDES = {name for name in OPTIONAL_FIELDS if name.startswith("guide.")}


def _honoured(keywords: tuple[str, ...] = ("cache_salt",), **settings: object) -> frozenset[str]:
    values = TensorRtLlmSettings(**settings)
    return honoured_fields(values, frozenset(keywords), has_torch=True)


@pytest.mark.parametrize("sampler", ["auto", "TorchSampler"])
def test_the_default_sampler_ignores_some(sampler: str) -> None:
    """Those are not promised; all else is, but one kind of guide."""
    left = OPTIONAL_FIELDS.keys() - _honoured(sampler=sampler)

    assert left == IGNORED | {"guide.structural_tag"}


def test_the_cpp_sampler_honours_all() -> None:
    """Penalties, seed and min_p too."""
    assert _honoured(sampler="TRTLLMSampler") >= IGNORED


@pytest.mark.parametrize(
    ("backend", "refused"),
    [
        ("llguidance", {"guide.structural_tag"}),
        ("xgrammar", {"guide.grammar"}),
        ("none", GUIDES),
    ],
)
def test_guides_need_a_backend(backend: str, refused: set[str]) -> None:
    """Without one they would be dropped in silence."""
    assert GUIDES - _honoured(guided_decoding_backend=backend) == refused


def test_what_a_build_lacks() -> None:
    """A keyword, and torch."""
    bare = honoured_fields(TensorRtLlmSettings(), frozenset(), has_torch=False)

    assert _honoured() - bare == {"cache_salt", "sampling.logit_bias"}
