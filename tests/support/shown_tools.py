"""Chat templates in the manner of families that show functions, and functions to show.

How the models' own templates show them: as JSON in the system's turn, in the user's first or last
one, described in words; in a template of their own; beside a switch for thoughts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.chat_templates import CHATML, LLAMA3
from tests.support.chat_templates import QWEN25 as QWEN25_TOOLS

_CHATML_TURNS = """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {%- if call.function.arguments is string %}
                {{- call.function.arguments }}
            {%- else %}
                {{- call.function.arguments | tojson }}
            {%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {{- '<|im_end|>\\n' }}
    {%- elif not (loop.first and message.role == 'system' and is_shown) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}"""

QWEN3_TOOLS = (
    """{%- set is_shown = tools is not none and tools %}
{%- if is_shown %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\nWrite <tool_call>…</tool_call>.<|im_end|>\\n' }}
{%- endif %}"""
    + _CHATML_TURNS
    + """
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
)

SMOLLM3 = (
    """{%- set is_shown = true %}
{%- if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}
{%- set words = '' %}
{%- if messages[0].role == 'system' %}{% set words = messages[0].content %}{% endif %}
{{- '<|im_start|>system\\n## Metadata\\n' }}
{{- 'Reasoning mode: ' + ('/think' if enable_thinking else '/no_think') + '\\n' + words + '\\n' }}
{%- if tools %}
    {%- set ns = namespace(shown='### Tools\\n<tools>\\n') %}
    {%- for tool in tools[:] %}
        {%- set ns.shown = ns.shown ~ (tool | string) ~ '\\n' %}
    {%- endfor %}
    {{- ns.shown + '</tools>\\n' }}
{%- endif %}
{{- '<|im_end|>\\n' }}"""
    + _CHATML_TURNS
    + """
{{- '<|im_start|>assistant\\n' }}
{{- '<think>\\n\\n</think>\\n' if not enable_thinking }}"""
)

HERMES_TOOL_USE = (
    """{%- macro type_of(schema) -%}
    {{- schema.type if schema.type is string else 'any' -}}
{%- endmacro -%}
{%- set is_shown = true %}
{{- bos_token + '<|im_start|>system\\nYou call functions. <tools>' }}
{%- for tool in tools %}
    {%- set f = tool.function %}
    {{- '\\n{"type": "function", "name": "' + f.name + '", "description": "' + f.name + '(' }}
    {%- for name, field in f.parameters.properties | items %}
        {{- name + ': ' + type_of(field) + (', ' if not loop.last else '') }}
    {%- endfor %}
    {{- ') - ' + f.description + '", "parameters": ' }}
    {{- f.parameters.properties | tojson + '}' }}
{%- endfor %}
{{- '\\n</tools>\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
{{- '<|im_end|>\\n' }}"""
    + _CHATML_TURNS
    + """
{{- '<|im_start|>assistant\\n' if add_generation_prompt }}"""
)

LLAMA31_TOOLS = """{{- bos_token }}
{%- if not tools_in_user_message is defined %}{% set tools_in_user_message = true %}{% endif %}
{%- set words = '' %}
{%- if messages[0].role == 'system' %}
    {%- set words = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Environment: ipython\\n' if tools is not none }}
{{- words + '<|eot_id|>' }}
{%- if tools_in_user_message and tools is not none %}
    {%- if messages | length == 0 %}{{ raise_exception('Where is the user?') }}{% endif %}
    {%- set asked = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\nAnswer by a call of these:\\n\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) + '\\n\\n' }}
    {%- endfor %}
    {{- asked + '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('One call at a time, please.') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name }}
        {{- '", "parameters": ' + call.arguments | tojson + '}<|eot_id|>' }}
    {%- elif message.role in ['tool', 'ipython'] %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content | tojson }}
        {{- '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' if add_generation_prompt }}"""

MISTRAL_TOOLS = """{%- set turns = messages[1:] if messages[0].role == 'system' else messages %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- set asked = turns | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace(index=0) %}
{%- for message in turns %}
    {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
        {%- if (message.role == 'user') != (ns.index % 2 == 0) %}
            {{- raise_exception('user and assistant must alternate') }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in turns %}
    {%- if message.role == 'user' %}
        {%- if tools is not none and message == asked[-1] %}
            {{- '[AVAILABLE_TOOLS] [' }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, value in tool.function.items() if key != 'return' %}
                    {{- '"' + key + '": ' }}
                    {{- '"' + value + '"' if value is string else value | tojson }}
                    {{- ', ' if not loop.last }}
                {%- endfor %}
                {{- '}}' + (', ' if not loop.last else ']') }}
            {%- endfor %}
            {{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' }}
        {{- messages[0].content + '\\n\\n' if loop.last and messages[0].role == 'system' }}
        {{- message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- if call.id is not defined or call.id | length != 9 %}
                {{- raise_exception('ids have nine characters') }}
            {%- endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
            {{- ', ' if not loop.last }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' ~ message.content ~ ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('no such role') }}
    {%- endif %}
{%- endfor %}"""

COMMAND_R_TOOL_USE = """{%- macro kind(schema) -%}
    {%- if schema.type == 'array' -%}
        List[{{ kind(schema['items']) }}]
    {%- elif schema.type == 'object' -%}
        Dict
    {%- else -%}
        {{ {'string': 'str', 'number': 'float', 'integer': 'int', 'boolean': 'bool'}[schema.type] }}
    {%- endif -%}
{%- endmacro -%}
{{- bos_token + '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># System Preamble\\n' }}
{%- if messages[0].role == 'system' %}
    {{- messages[0].content }}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- '\\n## Available Tools\\n' }}
{%- for tool in tools %}
    {%- set tool = tool.function %}
    {{- '```python\\ndef ' + tool.name + '(' }}
    {%- for name, field in tool.parameters.properties.items() %}
        {{- name + ': ' }}
        {%- if name in (tool.parameters.required or []) %}
            {{- kind(field) }}
        {%- else %}
            {{- 'Optional[' + kind(field) + '] = None' }}
        {%- endif %}
        {{- ', ' if not loop.last }}
    {%- endfor %}
    {{- ') -> List[Dict]:\\n    \"\"\"' + tool.description }}
    {%- for name, field in tool.parameters.properties.items() %}
        {{- '\\n        ' + name + ' (' + kind(field) + '): ' + (field.description or '') }}
    {%- endfor %}
    {{- '\\n    \"\"\"\\n```\\n\\n' }}
{%- endfor %}
{{- '<|END_OF_TURN_TOKEN|>' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {{- '<|CHATBOT_TOKEN|>Action: ```json\\n[' }}
        {%- for call in message.tool_calls %}
            {{- {'tool_name': call.function.name, 'parameters': call.function.arguments} | tojson }}
            {{- ',\\n' if not loop.last }}
        {%- endfor %}
        {{- ']\\n```' }}
    {%- elif message.role == 'tool' %}
        {{- '<|SYSTEM_TOKEN|><results>\\n' + message.content + '\\n</results>' }}
    {%- elif message.role == 'system' %}
        {{- '<|SYSTEM_TOKEN|>' + message.content }}
    {%- elif message.role == 'user' %}
        {{- '<|USER_TOKEN|>' + message.content }}
    {%- else %}
        {{- '<|CHATBOT_TOKEN|>' + message.content }}
    {%- endif %}
    {{- '<|END_OF_TURN_TOKEN|>' }}
{%- endfor %}
{{- '<|CHATBOT_TOKEN|>' if add_generation_prompt }}"""

GRANITE = """{%- if not thinking is defined %}{% set thinking = false %}{% endif %}
{{- '<|start_of_role|>system<|end_of_role|>' }}
{%- if messages[0].role == 'system' %}
    {{- messages[0].content }}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- 'Think aloud first.' if thinking }}
{{- '<|end_of_text|>\\n' }}
{%- if tools %}
    {{- '<|start_of_role|>tools<|end_of_role|>' + tools | tojson(indent=4) }}
    {{- '<|end_of_text|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_of_role|>' + message.role + '<|end_of_role|>' + (message.content or '') }}
    {%- if message.tool_calls %}
        {{- '<|tool_call|>' + message.tool_calls | map(attribute='function') | list | tojson }}
    {%- endif %}
    {{- '<|end_of_text|>\\n' }}
{%- endfor %}
{{- '<|start_of_role|>assistant<|end_of_role|>' if add_generation_prompt }}"""

SHOWING_FAMILIES: Mapping[str, Mapping[str, str]] = {
    "qwen2.5": {"default": QWEN25_TOOLS},
    "qwen3": {"default": QWEN3_TOOLS},
    "smollm3": {"default": SMOLLM3},
    "hermes 3": {"default": CHATML, "tool_use": HERMES_TOOL_USE},
    "llama3.2": {"default": LLAMA3},
    "llama3.1": {"default": LLAMA31_TOOLS},
    "mistral": {"default": MISTRAL_TOOLS},
    "command-r": {"default": CHATML, "tool_use": COMMAND_R_TOOL_USE, "rag": "{{ documents }}"},
    "granite": {"default": GRANITE},
}
"""Each family's templates by name."""


def _function(name: str, parameters: Mapping[str, Any], **more: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more, "parameters": parameters}}


_WHERE = {"type": "string", "description": 'A <town>, such as "Ulm" & é'}
_LOOK_SCHEMA = {
    "type": "object",
    "properties": {
        "where": _WHERE,
        "days": {"type": "array", "items": {"type": "integer"}, "description": "Which days"},
        "exact": {"type": "boolean"},
    },
    "required": ["where"],
}
LOOK = _function("look", _LOOK_SCHEMA, description="How warm it is\nsomewhere")
WAIT = _function("wait", {"type": "object", "properties": {}}, description="Wait")
SILENT = _function("silent", _LOOK_SCHEMA)
ODD = _function(
    "odd",
    {
        "type": "object",
        "properties": {"x": {"anyOf": [{"type": ["string", "null"]}, {"$ref": "#/$defs/y"}]}},
        "$defs": {"y": {"enum": [1, None, "z"]}},
        "additionalProperties": False,
    },
    description="",
)
BARE = _function("bare", {"type": "object"}, description="No properties at all")

TOOL_LISTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "one": [LOOK],
    "two": [LOOK, WAIT],
    "no description": [SILENT],
    "odd schema": [ODD, LOOK],
    "no properties": [BARE],
    "none": [],
}
