"""The base of configuration classes: unknown fields are errors, but for a switch."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from tensorrt_llm.double.machine import current


class StrictBaseModel(BaseModel):
    """Rejects unknown fields with a pydantic ValidationError, which is a ValueError."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _forgive(cls, values: Any) -> Any:
        if isinstance(values, dict) and not current().switches.rejects_unknown_fields:
            return {name: value for name, value in values.items() if name in cls.model_fields}
        return values
