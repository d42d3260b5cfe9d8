"""What cannot be guided in a format: refused by the parameter, never left out."""

import json
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import ToolChoice
from headrace.worker.v1.generation_pb2 import Choice, Guide
from tokenizer_svc.formats.catalog import FormatCatalog, OutputFormat
from tokenizer_svc.formats.hermes import HermesParser
from tokenizer_svc.formats.reasoning import ReasoningParser
from tokenizer_svc.formats.seam import ReasoningFormat, ToolFormat
from tokenizer_svc.guides.answers import AskedAnswer, answer_guide
from tokenizer_svc.guides.checking import GuideChecker
from tokenizer_svc.tool_mapping import ToolSpec

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
_UNSUPPORTED = errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
TOOL = ToolSpec(0, "get", None, None, strict=False)
NUMBER = Guide(json_schema='{"type": "integer"}')


def refused(answered_as: OutputFormat | None, content: Guide | None, **choice: Any) -> ServiceError:
    """The refusal of a guide for answers in that format."""
    assert answered_as is not None
    asked = AskedAnswer(answered_as, [TOOL], ToolChoice(**choice), content, False, {}, 4096)
    with pytest.raises(ServiceError) as caught:
        answer_guide(asked)
    return caught.value


@pytest.mark.parametrize(
    ("content", "choice", "param"),
    [
        (None, {"required": True}, "tool_choice"),
        (None, {"single_call": True}, "tool_choice"),
        (NUMBER, {}, "content_guide"),
    ],
)
def test_calls_without_a_grammar_are_not_demanded(
    content: Guide | None, choice: dict[str, Any], param: str
) -> None:
    """A format from outside that says nothing of how calls are written is refused by its name."""
    outside = ToolFormat("outside", (), lambda _: HermesParser())
    error = refused(FormatCatalog([outside]).find("outside"), content, **choice)

    assert (error.reason, error.param) == (_UNSUPPORTED, param)
    assert "`outside`" in error.message


def test_nothing_is_guided_behind_thoughts_without_an_end() -> None:
    """Nobody could say where the guide begins."""
    thoughts = ReasoningFormat(
        "musing", (), "<m>", lambda answer, inside: ReasoningParser(answer, begins_inside=inside)
    )
    error = refused(FormatCatalog([thoughts]).find("musing+hermes"), None, required=True)

    assert (error.reason, error.param) == (_UNSUPPORTED, "output_format")
    assert "`musing`" in error.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("llama3_json", Guide(json_object=True)),
        ("llama3_json", Guide(json_schema='{"type": "object"}')),
        ("llama3_json", Guide(choice=Choice(alternatives=["no", ' {"name"']))),
        ("hermes", Guide(choice=Choice(alternatives=["a <tool_call>"]))),
        ("mistral", Guide(choice=Choice(alternatives=["[TOOL_CALLS]"]))),
        ("hermes", Guide(regex="a\nb")),
    ],
)
def test_content_that_could_be_a_call_is_refused(name: str, content: Guide) -> None:
    """The parser could not tell it from one."""
    error = refused(FormatCatalog().find(name), content)

    assert (error.reason, error.param) == (_INVALID, "content_guide")


@pytest.mark.parametrize("names", [["name"], ["parameters", "x"], []])
def test_json_that_is_no_call_stands_beside_calls_of_json(names: list[str]) -> None:
    """Closed, and without both words of a call."""
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "additionalProperties": False,
    }
    found = FormatCatalog().find("llama3_json")
    assert found is not None
    content = Guide(json_schema=json.dumps(schema))
    asked = AskedAnswer(found, [TOOL], ToolChoice(), content, False, {}, 4096)

    assert answer_guide(asked) is not None


def test_the_librarys_own_options_are_not_told() -> None:
    """The refusal names the keyword, and nothing that the caller cannot set."""
    schema = {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}
    asked = AskedAnswer(
        FormatCatalog().find("text") or pytest.fail("no text"),
        [],
        ToolChoice(),
        Guide(json_schema=json.dumps(schema)),
        False,
        {},
        4096,
    )
    with pytest.raises(ServiceError) as caught:
        GuideChecker().guide(asked)

    assert "oneOf constraints are not supported." in caught.value.message
    assert "option" not in caught.value.message
