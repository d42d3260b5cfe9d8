"""Whether the model thinks before it answers: `reasoning_effort` none, `chat_template_kwargs`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.openai import checks, problems
from edge.openai.profile import Profile
from headrace.rpc.errors import ServiceError

EFFORT, SWITCHES = "reasoning_effort", "chat_template_kwargs"
THINKING_FIELDS = (EFFORT, SWITCHES)
SWITCH_NAMES = ("enable_thinking", "thinking")


@dataclass(frozen=True, slots=True)
class TemplateSwitches:
    """An object of flags for the template; of what else it holds the profile decides. A check."""

    def __call__(self, param: str, value: Any) -> dict[str, Any]:
        """The object. Raises ServiceError."""
        switches = checks.json_object(param, value)
        for name in SWITCH_NAMES:
            if switches.get(name) is not None:
                checks.boolean(f"{param}.{name}", switches[name])
        return switches

    def schema(self) -> checks.Schema:
        """The flags, each of which may be null."""
        flag = {"type": ["boolean", "null"]}
        return {
            **checks.json_object.schema(),
            "properties": {name: dict(flag) for name in SWITCH_NAMES},
        }


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether the model thinks, None = as it does; the field that said so; what is ignored."""

    wanted: bool | None = None
    param: str = EFFORT
    ignored: tuple[str, ...] = ()


template_switches = TemplateSwitches()
_AS_IT_DOES = Thinking()


def settle_thinking(
    values: dict[str, Any], document: Mapping[str, Any], profile: Profile
) -> Thinking:
    """Take what is about thinking out of `values`; an effort of none is not among them.

    Raises ServiceError for what contradicts itself, and in strict profiles for other switches.
    """
    no_effort = document.get(EFFORT) == "none"
    if SWITCHES not in values:
        return Thinking(wanted=False) if no_effort else _AS_IT_DOES
    given = {name: flag for name, flag in values.pop(SWITCHES).items() if flag is not None}
    others = tuple(f"{SWITCHES}.{name}" for name in given if name not in SWITCH_NAMES)
    if others and profile.strict:
        raise problems.unsupported_parameter(problems.shown(others[0], 128))
    flags = {f"{SWITCHES}.{name}": given[name] for name in SWITCH_NAMES if name in given}
    if not flags:
        return Thinking(wanted=False if no_effort else None, ignored=others)
    if len(set(flags.values())) > 1:
        raise _contradiction(*flags)
    param, wanted = next(iter(flags.items()))
    if no_effort and wanted:
        if profile.strict:
            raise _contradiction(EFFORT, param)
        others = (*others, EFFORT)
    return Thinking(wanted, param, others)


def _contradiction(one: str, other: str) -> ServiceError:
    return problems.refused(
        f"'{one}' and '{other}' contradict one another.", other, "invalid_parameter_combination"
    )
