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
        return replace(error, param=chat.origins.thinking_param)
    if chat.shape.calls_as == "functions" and error.param.partition(".")[0] in _LEGACY:
        return replace(error, param=_LEGACY[error.param.partition(".")[0]])
    return error


def function_param(chat: ChatRequest, index: int) -> str:
    """The client's path to the function that the backend has at `index`."""
    place = chat.origins.tool_indexes[index]
    return (
        f"functions[{place}]" if chat.shape.calls_as == "functions" else f"tools[{place}].function"
    )


def _about_tool(
    error: ServiceError, chat: ChatRequest, index: int, field: str | None
) -> ServiceError:
    if index >= len(chat.origins.tool_indexes):
        return error
    param = function_param(chat, index)
    if field is None:
        return replace(error, param=param)
    told = replace(error, param=f"{param}.{field}")
    if field != "parameters" or error.reason != _INVALID:
        return told
    message = problems.invalid_schema_message("function", chat.tools[index].name, error.message)
    return replace(told, message=message, openai_code=problems.INVALID_PARAMETERS_CODE)


def _about_guide(error: ServiceError, chat: ChatRequest) -> ServiceError:
    """A guide is that of the content where there is one, else that of the calls."""
    guide = chat.content_guide
    if guide is None:
        return replace(error, param=chat.shape.calls_as or error.param)
    told = replace(error, param=chat.content_guide_param)
    is_format = chat.content_guide_param == "response_format"
    if not is_format or guide.kind != "json_schema" or error.reason != _INVALID:
        return told
    return replace(
        told,
        message=problems.invalid_schema_message(
            "response_format", chat.origins.schema_name, error.message
        ),
    )
