"""Functions described in the system text, for templates that show none.

In the manner of the Hermes models' function calling: the functions as JSON, one a line, within
<tools>, and how a call is written, in the format in which the answer is read. What is written
depends on structure only.
"""

import json
from collections.abc import Sequence

from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.message_preparing import SEPARATOR
from tokenizer_svc.template_tools import TemplateTool

_INTRODUCTION = """# Tools

You can call functions to help with what the user asks. These are the functions, each described by \
a JSON object on a line of its own between <tools> and </tools>, its parameters by a JSON schema:
<tools>
"""
# By the name of the format; one from outside is for a model that knows how it writes calls.
_INSTRUCTIONS = {
    "hermes": """
To call a function, answer with a JSON object of its name and its arguments between <tool_call> \
and </tool_call>, one such block for each call:
<tool_call>
{"name": <name of the function>, "arguments": <object of its arguments>}
</tool_call>""",
    "llama3_json": """
To call a function, answer with nothing but a JSON object of its name and its arguments:
{"name": <name of the function>, "parameters": <object of its arguments>}""",
    "mistral": """
To call functions, answer with [TOOL_CALLS] and a JSON array of their names and arguments:
[TOOL_CALLS] [{"name": <name of the function>, "arguments": <object of its arguments>}]""",
    "qwen3_coder": """
To call a function, answer with its name and the value of each argument between <tool_call> and \
</tool_call>, one such block for each call:
<tool_call>
<function=name_of_the_function>
<parameter=name_of_an_argument>
its value
</parameter>
</function>
</tool_call>""",
}


def described(tools: Sequence[TemplateTool], calls_as: str) -> str:
    """The description. `calls_as` names the format of calls in which the answer is read."""
    lines = [json.dumps(tool, ensure_ascii=False) for tool in tools]
    return (
        "\n".join([_INTRODUCTION + "\n".join(lines), "</tools>"])
        + "\n"
        + _INSTRUCTIONS.get(calls_as, "")
    )


def with_description(
    messages: Sequence[TemplateMessage], description: str
) -> list[TemplateMessage]:
    """The messages with the description behind the system's first, or as one in front."""
    if messages and messages[0]["role"] in ("system", "developer"):
        first, rest = messages[0], messages[1:]
        texts = filter(None, [first["content"], description])
        return [{**first, "content": SEPARATOR.join(texts)}, *rest]
    return [{"role": "system", "content": description}, *messages]
