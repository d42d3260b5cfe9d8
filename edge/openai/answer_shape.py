"""`AnswerShape`: how an answer tells what the model said, as the request decided it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """`calls_as` None = nothing may be called, so that the first chunk says an empty content.

    "functions" is the older form: one `function_call`, without an id. `is_named`: the request named
    the function, so that the answer ends with `stop`.
    """

    calls_as: Literal["tools", "functions"] | None = None
    is_named: bool = False
