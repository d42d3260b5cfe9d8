"""Speculative decoding: one class for each type, told apart by `decoding_type`.

The field of the draft model is `speculative_model` or, by a switch, `speculative_model_dir`: the
contract's section 10 leaves open which one 1.2.1 has. Classes are made for each.
"""

from functools import cache
from typing import Any, Literal

from pydantic import Field, create_model

from tensorrt_llm.llmapi.strict_model import StrictBaseModel

PYTORCH_TYPES = {
    "DraftTargetDecodingConfig": "Draft_Target",
    "EagleDecodingConfig": "Eagle",
    "Eagle3DecodingConfig": "Eagle3",
    "MTPDecodingConfig": "MTP",
    "NGramDecodingConfig": "NGram",
    "UserProvidedDecodingConfig": "User_Provided",
    "SaveHiddenStatesDecodingConfig": "SaveState",
    "AutoDecodingConfig": "AUTO",
}
OTHER_TYPES = {
    "LookaheadDecodingConfig": "Lookahead",
    "MedusaDecodingConfig": "Medusa",
}
NAMES = frozenset((*PYTORCH_TYPES, *OTHER_TYPES))
_OWN: dict[str, dict[str, Any]] = {
    "EagleDecodingConfig": {"eagle3_one_model": (bool | None, True)},
    "Eagle3DecodingConfig": {"eagle3_one_model": (bool | None, True)},
    "MTPDecodingConfig": {"num_nextn_predict_layers": (int, 1)},
    "NGramDecodingConfig": {
        "max_matching_ngram_size": (int, 2),
        "is_keep_all": (bool, True),
        "is_use_oldest": (bool, True),
        "is_public_pool": (bool, True),
    },
    "LookaheadDecodingConfig": {
        "max_window_size": (int, 4),
        "max_ngram_size": (int, 3),
        "max_verification_set_size": (int, 4),
    },
    "MedusaDecodingConfig": {"num_medusa_heads": (int | None, None)},
}


class DecodingBaseConfig(StrictBaseModel):
    """What all have; `max_draft_len` in tokens."""

    max_draft_len: int | None = Field(default=None, ge=0)


@cache
def decoding_config(name: str, draft_field: str) -> type[DecodingBaseConfig]:
    """The class of that name, with that field for the draft model."""
    kind = {**PYTORCH_TYPES, **OTHER_TYPES}[name]
    fields: dict[str, Any] = {
        "decoding_type": (Literal[kind], kind),
        draft_field: (str | None, None),
        **_OWN.get(name, {}),
    }
    made: type[DecodingBaseConfig] = create_model(
        name, __base__=DecodingBaseConfig, __module__="tensorrt_llm.llmapi.llm_args", **fields
    )
    return made


def parsed(value: Any, draft_field: str) -> DecodingBaseConfig:
    """A config from a mapping with `decoding_type`, or as it is. Raises ValueError."""
    if not isinstance(value, dict):
        if not isinstance(value, DecodingBaseConfig):
            raise TypeError(f"speculative_config is no decoding config: {type(value).__name__}")
        return value
    for name, kind in {**PYTORCH_TYPES, **OTHER_TYPES}.items():
        if value.get("decoding_type") == kind:
            return decoding_config(name, draft_field).model_validate(value)
    raise ValueError(f"speculative_config: decoding_type {value.get('decoding_type')!r} is unknown")
