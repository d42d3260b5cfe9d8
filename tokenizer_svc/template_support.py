"""What of a conversation a chat template takes: found out by rendering small ones, once a model.

A template takes something if the prompt shows it. Templates refuse what they do not know, but many
leave it out without a word: so every text of a probe is a word that nothing else spells, and must
come out again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headrace.rpc.errors import ServiceError
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.template_tools import TemplateTool

_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_UNKNOWN_ROLE = "qzrolezq"
_LONG_IDS = ("call_qz0000000001zq", "call_qz0000000002zq")
_SHORT_IDS = ("qz00001zq", "qz00002zq")
SHORT_ID_CHARACTERS = 9


@dataclass(frozen=True, slots=True)
class ToolSupport:
    """How a template takes tool calls and their results.

    `object_arguments`: it wants the arguments parsed; `text_arguments`: it takes texts as well.
    `content_beside_thoughts`: in one message with calls.
    """

    object_arguments: bool = True
    text_arguments: bool = True
    short_ids: bool = False
    null_content: bool = True
    parallel_calls: bool = True
    content_beside_calls: bool = True
    content_beside_thoughts: bool = True
    calls_without_results: bool = True
    results_without_calls: bool = True
    user_after_results: bool = True
    names_results: bool = False


@dataclass(frozen=True, slots=True)
class TemplateSupport:
    """What a template takes. The default is everything: messages go to it as they are.

    `system_before_others`: the system message is shown also where the last message is not the
    user's. `tools` None = calls or results are refused or left out. `reasoning_field` is the key
    that it reads, None where it reads none.
    """

    developer: bool = True
    system: Literal["anywhere", "first", "none"] = "anywhere"
    system_alone: bool = True
    system_before_others: bool = True
    repeated_roles: bool = True
    assistant_first: bool = True
    assistant_last: bool = True
    null_assistant: bool = True
    null_user: bool = True
    reasoning_field: str | None = "reasoning_content"
    tools: ToolSupport | None = ToolSupport()


def probed_support(template: ChatTemplate, tools: Sequence[TemplateTool] = ()) -> TemplateSupport:
    """Render the probes, with these tools; some 40 of them, a few milliseconds. Blocks."""
    probe = _Probe(template, tools)
    if not probe.shows(_user()):
        return TemplateSupport()  # nothing can be learned: it refuses or hides everything
    system, thoughts = _system(probe), _reasoning_field(probe)
    assistant_last = probe.shows(_user(), _assistant())
    return TemplateSupport(
        developer=_knows_developer(probe),
        system=system,
        system_alone=probe.shows(_system_message(1)),
        system_before_others=not assistant_last
        or probe.shows(_system_message(1), _user(), _assistant()),
        repeated_roles=probe.shows(_user(1), _user(2))
        and probe.shows(_user(1), _assistant(1), _assistant(2), _user(2)),
        assistant_first=probe.shows(_assistant())
        and probe.shows(_assistant(), _user())
        and probe.tells_roles_apart(_assistant(), _user())
        and (system == "none" or probe.shows(_system_message(1), _assistant(), _user())),
        assistant_last=assistant_last,
        null_assistant=probe.takes_null(_user(1), _null("assistant"), _user(2)),
        null_user=probe.takes_null(_null("user")),
        reasoning_field=thoughts,
        tools=_tools(probe, thoughts),
    )


def _user(number: int = 1) -> TemplateMessage:
    return {"role": "user", "content": f"qzuser{number}zq"}


def _assistant(number: int = 1) -> TemplateMessage:
    return {"role": "assistant", "content": f"qzsaid{number}zq"}


def _system_message(number: int, role: str = "system") -> TemplateMessage:
    return {"role": role, "content": f"qzsystem{number}zq"}


def _null(role: str) -> TemplateMessage:
    return {"role": role, "content": None}


class _Probe:
    def __init__(self, template: ChatTemplate, tools: Sequence[TemplateTool]) -> None:
        self._template = template
        self._tools = tools

    def text(self, messages: Sequence[TemplateMessage]) -> str | None:
        """The prompt; None where the template refuses the messages."""
        try:
            return self._template.render(messages, self._tools)
        except ServiceError:
            return None

    def shows(self, *messages: TemplateMessage, words: Sequence[str] = ()) -> bool:
        """Whether the prompt has all contents, and the other words too."""
        text = self.text(messages)
        contents = [message["content"] for message in messages if message["content"]]
        return text is not None and all(word in text for word in [*contents, *words])

    def tells_roles_apart(self, first: TemplateMessage, *rest: TemplateMessage) -> bool:
        """Whether the first message is shown otherwise than if the user had said it."""
        return self.text([first, *rest]) != self.text([{**first, "role": "user"}, *rest])

    def takes_null(self, *messages: TemplateMessage) -> bool:
        """Whether null content is taken, and not written out as Python's None."""
        text = self.text(messages)
        empty = self.text(
            [{**message, "content": message["content"] or ""} for message in messages]
        )
        return text is not None and text.count("None") <= (empty or "").count("None")


def _knows_developer(probe: _Probe) -> bool:
    """Shown wherever it stands, and not just as any word for a role would be."""
    one, two = _system_message(1, "developer"), _system_message(2, "developer")
    conversations = ((one, _user()), (one, two, _user()), (one,), (_user(), _assistant(), one))
    if not all(probe.shows(*conversation) for conversation in conversations):
        return False
    unknown = probe.text([_system_message(1, _UNKNOWN_ROLE), _user()])
    known = probe.text([one, _user()])
    return unknown is None or unknown.replace(_UNKNOWN_ROLE, "developer") != known


def _system(probe: _Probe) -> Literal["anywhere", "first", "none"]:
    one, two, user, said = _system_message(1), _system_message(2), _user(), _assistant()
    if not (probe.shows(one, user) and probe.shows(one, user, said, _user(2))):
        return "none"
    later = (
        (one, two, user),
        (user, one, _user(2)),
        (user, said, one, _user(2)),
        (user, said, one),
        (one, user, two),
        (one, two),
    )
    return "anywhere" if all(probe.shows(*messages) for messages in later) else "first"


def _reasoning_field(probe: _Probe) -> str | None:
    """Where the last turn's thoughts, or those before a tool's result, are shown."""
    thought = "qzthoughtzq"
    for field in _REASONING_FIELDS:
        said = {**_assistant(), field: thought}
        calling = {**_calling(_call(0)), "content": "", field: thought}
        for conversation in (
            (_user(), said),
            (_user(), said, _user(2)),
            (_user(), calling, _result(0)),
        ):
            if probe.shows(*conversation, words=[thought]):
                return field
    return None


def _call(number: int, *, as_text: bool = False, short_id: bool = False) -> dict[str, Any]:
    ids = _SHORT_IDS if short_id else _LONG_IDS
    arguments: Any = {f"qzkey{number}zq": f"qzvalue{number}zq"}
    if as_text:
        arguments = f'{{"qzkey{number}zq": "qzvalue{number}zq"}}'
    function = {"name": f"qzname{number}zq", "arguments": arguments}
    return {"id": ids[number], "type": "function", "function": function}


def _calling(*calls: dict[str, Any], content: str | None = None) -> TemplateMessage:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def _result(number: int, *, short_id: bool = False) -> TemplateMessage:
    ids = _SHORT_IDS if short_id else _LONG_IDS
    return {
        "role": "tool",
        "content": f"qzresult{number}zq",
        "tool_call_id": ids[number],
        "name": f"qzname{number}zq",
    }


def _words(number: int) -> list[str]:
    return [f"qz{part}{number}zq" for part in ("name", "key", "value")]


def _tools(probe: _Probe, thoughts: str | None) -> ToolSupport | None:
    for object_arguments in (True, False):
        for short_ids in (False, True):
            for null_content in (True, False):
                found = _ToolProbe(
                    probe,
                    object_arguments=object_arguments,
                    short_ids=short_ids,
                    null_content=null_content,
                )
                if found.is_taken():
                    return found.support(thoughts)
    return None


class _ToolProbe:
    """One way of writing calls."""

    def __init__(
        self, probe: _Probe, *, object_arguments: bool, short_ids: bool, null_content: bool
    ) -> None:
        self._probe = probe
        self._object_arguments = object_arguments
        self._short_ids = short_ids
        self._null_content = null_content
        self._calls = [
            _call(number, as_text=not object_arguments, short_id=short_ids) for number in (0, 1)
        ]
        self._results = [_result(number, short_id=short_ids) for number in (0, 1)]

    def is_taken(self) -> bool:
        """Whether calls and results in turn, the ordinary course, are shown."""
        one = (_user(), self._calling(0), self._results[0])
        two = (*one, self._calling(1), self._results[1], _assistant(), _user(2))
        text = self._probe.text(one) or ""
        is_pythons = "{'qzkey0zq" in text or (
            self._null_content and not self._probe.takes_null(*one)
        )
        silent = {"role": "assistant", "content": ""}
        return (
            not is_pythons
            and self._shows(*one)
            and self._shows(*one, _assistant(), _user(2))
            and self._shows(*two, words=_words(1))
            and (self._shows(*one, _user(2)) or self._shows(*one, silent, _user(2)))
        )

    def support(self, thoughts: str | None) -> ToolSupport:
        """What else is taken. `thoughts` is the field that the template reads them from."""
        shows, user, result = self._probe.shows, _user(), self._results[0]
        calling, said = self._calling(0), _assistant()
        both = _calling(*self._calls, content=calling["content"])
        loose = {"role": "tool", "content": result["content"]}
        spoken = {**calling, "content": "qzcallszq"}
        plain = {**self._calls[0], "function": {"name": "qzname0zq", "arguments": "qzplainzq"}}
        with_text = {**calling, "tool_calls": [plain]}
        return ToolSupport(
            object_arguments=self._object_arguments,
            text_arguments=shows(user, with_text, result, words=["qzplainzq"]),
            short_ids=self._short_ids,
            null_content=self._null_content,
            parallel_calls=self._shows(user, both, *self._results, words=_words(1)),
            content_beside_calls=self._shows(user, spoken, result),
            content_beside_thoughts=thoughts is None
            or self._shows(user, {**spoken, thoughts: "qzthoughtzq"}, result),
            calls_without_results=self._shows(user, calling)
            and self._shows(user, calling, _user(2))
            and self._shows(user, calling, said, _user(2))
            and self._shows(user, calling, self._calling(1), self._results[1], words=_words(1)),
            results_without_calls=shows(loose)
            and shows(user, loose)
            and shows(user, said, loose, _user(2)),
            user_after_results=self._shows(user, calling, result, _user(2)),
            names_results=self._names_results(),
        )

    def _shows(self, *messages: TemplateMessage, words: Sequence[str] = ()) -> bool:
        """Whether the prompt has all contents and the first call."""
        return self._probe.shows(*messages, words=[*_words(0), *words])

    def _calling(self, number: int) -> TemplateMessage:
        return _calling(self._calls[number], content=None if self._null_content else "")

    def _names_results(self) -> bool:
        named = {**self._results[0], "name": "qzresultnamezq"}
        return self._probe.shows(_user(), self._calling(0), named, words=["qzresultnamezq"])
