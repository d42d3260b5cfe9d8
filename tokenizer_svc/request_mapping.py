"""Requests on the wire to validated values. Raises ServiceError that names the parameter."""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen, FunctionSchema
from headrace.tokenizer.v1.render_pb2 import BlockDigestParams
from tokenizer_svc.formats.parameter_values import parameter_types
from tokenizer_svc.formats.seam import ToolTypes
from tokenizer_svc.settings import LimitSettings
from tokenizer_svc.tool_mapping import check_functions


def stop_strings(request: DetokenizeOpen, limits: LimitSettings) -> tuple[str, ...]:
    """The output's stop strings, within the limits."""
    stops = tuple(request.stop_strings)
    if len(stops) > limits.max_stop_strings:
        _refuse(
            f"stop has {len(stops)} strings; at most {limits.max_stop_strings} are allowed.", "stop"
        )
    for stop in stops:
        if not stop:
            _refuse("stop has an empty string.", "stop")
        if len(stop) > limits.max_stop_string_characters:
            _refuse(
                f"stop has a string of {len(stop)} characters; at most "
                f"{limits.max_stop_string_characters} are allowed.",
                "stop",
            )
    return stops


def tool_types(functions: Sequence[FunctionSchema], limits: LimitSettings) -> ToolTypes:
    """The types of the functions' parameters, within the limits."""
    check_functions(functions, limits, "functions")
    return {
        function.name: parameter_types(_schema(function)) if function.parameters else {}
        for function in functions
    }


def _schema(function: FunctionSchema) -> Any:
    try:
        schema = json.loads(function.parameters)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        _refuse(f"functions has parameters of `{function.name}` that are no JSON object.")
    return schema


def checked_text(text: str, limits: LimitSettings) -> str:
    """A text of Encode or CountTokens, within the limits."""
    if len(text) > limits.max_text_characters:
        message = (
            f"text has {len(text)} characters; at most {limits.max_text_characters} are allowed."
        )
        raise ServiceError(errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE, message, param="text")
    return text


def checked_block_size(params: BlockDigestParams) -> int:
    """Tokens a block, above 0."""
    if not params.block_size:
        _refuse("block_digests.block_size is 0; it must be at least 1.", "block_digests")
    return params.block_size


def _refuse(message: str, param: str = "functions") -> NoReturn:
    raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param)
