"""What a client is told of the backend's refusals: its own fields, in OpenAI's words."""

import pytest

from edge.openai.answer_shape import AnswerShape
from edge.openai.backend_errors import as_client_sees
from edge.openai.chat_request import ChatRequest
from edge.openai.origins import Origins
from headrace.client.prompt_request import ChatMessage, ContentGuide, Function
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.chat_requests import code_of

INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
UNSUPPORTED = errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
SAID = (ChatMessage("user", "hello"),)
TOOLS = ChatRequest(
    model="m",
    messages=SAID,
    tools=(Function("first"), Function("second")),
    shape=AnswerShape("tools"),
    origins=Origins((1, 4), thinking_param="chat_template_kwargs.enable_thinking"),
)
FUNCTIONS = ChatRequest(
    model="m",
    messages=SAID,
    tools=(Function("first"), Function("second")),
    shape=AnswerShape("functions"),
    origins=Origins((0, 3)),
)
FORMAT = ChatRequest(
    model="m",
    messages=SAID,
    content_guide=ContentGuide("json_schema", "{}"),
    origins=Origins(schema_name="answer"),
)
REGEX = ChatRequest(
    model="m",
    messages=SAID,
    content_guide=ContentGuide("regex", "a+"),
    content_guide_param="guided_regex",
)


@pytest.mark.parametrize(
    ("chat", "param", "seen", "message", "code"),
    [
        (
            TOOLS,
            "tools[1].parameters",
            "tools[4].function.parameters",
            "Invalid schema for function 'second': no",
            "invalid_function_parameters",
        ),
        (
            FUNCTIONS,
            "tools[1].parameters",
            "functions[3].parameters",
            "Invalid schema for function 'second': no",
            "invalid_function_parameters",
        ),
        (TOOLS, "tools[0].name", "tools[1].function.name", "no", None),
        (TOOLS, "tools[0]", "tools[1].function", "no", None),
        (TOOLS, "tools[2].parameters", "tools[2].parameters", "no", None),
        (TOOLS, "tools", "tools", "no", None),
        (FUNCTIONS, "tools", "functions", "no", None),
        (TOOLS, "tool_choice.allowed_names", "tool_choice.allowed_names", "no", None),
        (FUNCTIONS, "tool_choice.allowed_names", "function_call", "no", None),
        (TOOLS, "guide.grammar", "tools", "no", None),
        (FUNCTIONS, "guide", "functions", "no", None),
        (
            FORMAT,
            "content_guide",
            "response_format",
            "Invalid schema for response_format 'answer': no",
            None,
        ),
        (
            FORMAT,
            "guide.json_schema",
            "response_format",
            "Invalid schema for response_format 'answer': no",
            None,
        ),
        (REGEX, "content_guide.regex", "guided_regex", "no", None),
        (TOOLS, "thinking", "chat_template_kwargs.enable_thinking", "no", None),
        (FORMAT, "thinking", "reasoning_effort", "no", None),
        (TOOLS, "messages[1].tool_calls", "messages[1].tool_calls", "no", None),
        (TOOLS, "guided", "guided", "no", None),
    ],
)
def test_params(chat: ChatRequest, param: str, seen: str, message: str, code: str | None) -> None:
    """Each of the backend's names becomes the client's; schemas are told by their owner's name."""
    told = as_client_sees(ServiceError(INVALID, "no", param), chat)

    assert (seen, message, code) == (told.param, told.message, code_of(told))
    assert told.row.http_status == 400


@pytest.mark.parametrize(
    ("chat", "param", "seen"),
    [(TOOLS, "tools[0].parameters", "tools[1].function.parameters"), (FORMAT, "guide", None)],
)
def test_what_is_no_matter_of_schemas(chat: ChatRequest, param: str, seen: str | None) -> None:
    """Where not the schema is at fault, the message stays as it is."""
    told = as_client_sees(ServiceError(UNSUPPORTED, "cannot", param), chat)

    assert (seen or "response_format", "cannot") == (told.param, told.message)
    assert "unsupported_parameter" == code_of(told)


def test_an_error_without_a_parameter_is_given_back() -> None:
    """A failure that is nobody's fault is the same object, with all that it knows."""
    error = ServiceError(UNSUPPORTED, "later", retry_after_seconds=2)

    assert as_client_sees(error, TOOLS) is error


def test_what_an_error_knows_is_kept() -> None:
    """Only the parameter changes."""
    error = ServiceError(INVALID, "no", "thinking", openai_type="t", is_final=True)

    told = as_client_sees(error, TOOLS)

    assert ("t", True, INVALID) == (told.openai_type, told.is_final, told.reason)


@pytest.mark.parametrize(
    ("chat", "param", "message", "seen"),
    [
        (
            TOOLS,
            "tools[1].parameters",
            "tools[1].parameters of `second` cannot be enforced: uniqueItems.",
            "Invalid schema for function 'second': schema cannot be enforced: uniqueItems.",
        ),
        (
            FUNCTIONS,
            "tools[0].parameters",
            "tools[0].parameters is no JSON.",
            "Invalid schema for function 'first': schema is no JSON.",
        ),
        (
            FORMAT,
            "content_guide",
            "content_guide cannot be used: the keyword x.",
            "Invalid schema for response_format 'answer': schema cannot be used: the keyword x.",
        ),
        (REGEX, "content_guide", "content_guide cannot be used.", "guided_regex cannot be used."),
        (FUNCTIONS, "tools", "tools has too many.", "functions has too many."),
        (TOOLS, "tools[0].name", "tools[0].name is long.", "tools[1].function.name is long."),
    ],
)
def test_sentences(chat: ChatRequest, param: str, message: str, seen: str) -> None:
    """A sentence that begins with the backend's name begins with the client's."""
    assert as_client_sees(ServiceError(INVALID, message, param), chat).message == seen
