"""Pure: what this build, with these settings, honours of a request's optional fields.

1.2's default sampler takes penalties, seed and min_p and ignores them; without a backend guides are
dropped in silence. So neither is promised from what the library accepts.
"""

from collections.abc import Mapping

from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings

MAX_LOGPROBS = 20
MAX_OUTPUTS = 128

_ALWAYS = frozenset(
    (
        "sampling.temperature",
        "sampling.top_p",
        "sampling.top_k",
        "output_prefix_token_ids",
        "stop_token_ids",
        "ignore_eos",
        "min_tokens",
        "logprobs",
        "priority",
    )
)
_CPP_SAMPLER = frozenset(
    (
        "sampling.min_p",
        "sampling.presence_penalty",
        "sampling.frequency_penalty",
        "sampling.repetition_penalty",
        "sampling.seed",
    )
)
_COMMON_GUIDES = frozenset(
    ("guide.json_schema", "guide.json_object", "guide.regex", "guide.choice")
)
_GUIDES: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "llguidance": _COMMON_GUIDES | {"guide.grammar"},
    "xgrammar": _COMMON_GUIDES | {"guide.structural_tag"},
}


def honoured_fields(
    settings: TensorRtLlmSettings, keywords: frozenset[str], *, has_torch: bool
) -> frozenset[str]:
    """Dotted names of the optional fields that are honoured; `keywords` were probed."""
    fields = _ALWAYS | _GUIDES[settings.guided_decoding_backend]
    if settings.sampler == "TRTLLMSampler":
        fields |= _CPP_SAMPLER
    if has_torch:
        fields |= {"sampling.logit_bias"}
    if "cache_salt" in keywords:
        fields |= {"cache_salt"}
    return fields
