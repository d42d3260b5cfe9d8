"""The backend's refusals as a client sees them: its own field named, in OpenAI's words.

The backend knows `tools[2].parameters`, `content_guide`, `guide.regex` and `thinking`; a client
sent `tools[3].function.parameters` or `functions[2].parameters`, `response_format` or
`guided_regex`, and `reasoning_effort`.
"""

import re
from dataclasses import replace

from edge.openai import problems
from edge.openai.chat_request import ChatRequest
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
_TOOL = re.compile(r"tools\[(\d{1,4})\](?:\.(\w+))?")
_GUIDE = re.compile(r"(?:content_guide|guide)(?:\..*)?", re.DOTALL)
_LEGACY = {"tools": "functions", "tool_choice": "function_call"}


def as_client_sees(error: ServiceError, chat: ChatRequest) -> ServiceError:
    """The error with the client's parameter; one that names no such field is given back as it is.

    A schema that cannot be enforced is told as OpenAI tells it, the function or format by its name.
    """
    if error.param is None:
        return error
    tool = _TOOL.fullmatch(error.param)
    if tool is not None:
        return _about_tool(error, chat, int(tool[1]), tool[2])
    if _GUIDE.fullmatch(error.param):
        return _about_guide(error, chat)
    if error.param == "thinking":
        return _told(error, chat.origins.thinking_param)
    if chat.shape.calls_as == "functions" and error.param.partition(".")[0] in _LEGACY:
        return _told(error, _LEGACY[error.param.partition(".")[0]])
    return error


def _about_tool(
    error: ServiceError, chat: ChatRequest, index: int, field: str | None
) -> ServiceError:
    if index >= len(chat.origins.tool_indexes):
        return error
    place = chat.origins.tool_indexes[index]
    is_older = chat.shape.calls_as == "functions"
    param = f"functions[{place}]" if is_older else f"tools[{place}].function"
    if field is None:
        return _told(error, param)
    param = f"{param}.{field}"
    if field != "parameters" or error.reason != _INVALID:
        return _told(error, param)
    name = chat.tools[index].name
    message = problems.invalid_schema_message("function", name, _schema_problem(error, name))
    code = problems.INVALID_PARAMETERS_CODE
    return replace(error, param=param, message=message, openai_code=code)


def _about_guide(error: ServiceError, chat: ChatRequest) -> ServiceError:
    """A guide is that of the content where there is one, else that of the calls."""
    guide, param = chat.content_guide, chat.content_guide_param
    if guide is None:
        return _told(error, chat.shape.calls_as or error.param or "")
    if param != "response_format" or guide.kind != "json_schema" or error.reason != _INVALID:
        return _told(error, param)
    name = chat.origins.schema_name
    message = problems.invalid_schema_message(param, name, _schema_problem(error, name))
    return replace(error, param=param, message=message)


def _told(error: ServiceError, param: str) -> ServiceError:
    """The error with another parameter, also where its sentence begins with it."""
    own = error.param or ""
    rest = error.message.removeprefix(own)
    message = error.message if rest == error.message else param + rest
    return replace(error, param=param, message=message)


def _schema_problem(error: ServiceError, name: str) -> str:
    """What is wrong with a schema, in a sentence that need not say which it is."""
    rest = error.message.removeprefix(error.param or "")
    if rest == error.message:
        return rest
    return f"schema{rest.removeprefix(f' of `{name}`')}"
