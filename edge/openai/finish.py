"""Why a choice ended, as OpenAI says it: one pure function."""

from typing import Literal

from edge.openai.answer_shape import AnswerShape
from headrace.client.answers import Finish

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]
"""Of OpenAI's five; nothing here filters content."""


def finish_reason(ended: Finish, num_complete_calls: int, shape: AnswerShape) -> FinishReason:
    """What the finish chunk and the whole choice say.

    A limit stays a limit, even within a call. Where the request named the function a call is what
    was asked for and no turn of the model's own, so that OpenAI says `stop`. A call that broke off
    is not there to be made.
    """
    if ended == "length":
        return "length"
    if not num_complete_calls or shape.is_named:
        return "stop"
    return "function_call" if shape.calls_as == "functions" else "tool_calls"
