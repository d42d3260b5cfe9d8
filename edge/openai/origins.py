"""`Origins`: where in the body that stands which the backend is asked in other words.

The backend's errors name its own fields; a client is told its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origins:
    """`tool_indexes`: of each function its place in the client's array, whose nulls count.

    `schema_name` is the name that `response_format` gives its schema, `thinking_param` the field
    that said whether the model thinks.
    """

    tool_indexes: tuple[int, ...] = ()
    schema_name: str = ""
    thinking_param: str = "reasoning_effort"
