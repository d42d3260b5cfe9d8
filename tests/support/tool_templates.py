"""Chat templates in the manner of families that know tools, each with its family's demands.

What the models' own templates do with calls and results, and what they refuse: one call at a time,
ids of nine characters, arguments as an object or as text, results only behind calls, strict turns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

QWEN25 = """{%- for message in messages %}
    {%- if message.role == "tool" %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- elif message.role == "assistant" and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

LLAMA31 = """{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('One call at a time, please.') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
        {{- '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- '}<|eot_id|>' }}
    {%- elif message.role == 'tool' or message.role == 'ipython' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

HERMES = """{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>tool\\n<tool_response>\\n' }}
        {{- {'name': message.name, 'content': message.content} | tojson }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- elif message.tool_calls is defined %}
        {{- '<|im_start|>assistant' }}
        {%- for call in message.tool_calls %}
            {{- '\\n<tool_call>\\n' }}
            {{- {'arguments': call.function.arguments, 'name': call.function.name} | tojson }}
            {{- '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt }}"""

MISTRAL = """{%- set turns = messages[1:] if messages[0].role == 'system' else messages %}
{%- set ns = namespace(index=0, last=-1) %}
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
        {{- '[INST] ' }}
        {%- if loop.last and messages[0].role == 'system' %}
            {{- messages[0].content + '\\n\\n' }}
        {%- endif %}
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
        {%- if message.tool_call_id is not defined or message.tool_call_id | length != 9 %}
            {{- raise_exception('ids have nine characters') }}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' ~ message.content ~ ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('no such role') }}
    {%- endif %}
{%- endfor %}"""

TEXT_ARGUMENTS = """{%- set ns = namespace(system='', open=false) %}
{%- for message in messages if message.role == 'system' %}
    {%- set ns.system = ns.system + ('\\n' if ns.system else '') + message.content %}
{%- endfor %}
{{- bos_token + ns.system }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|User|>' + message.content }}
    {%- elif message.role == 'assistant' %}
        {{- '<|Assistant|>' }}
        {%- if message.reasoning_content %}
            {{- '<think>' + message.reasoning_content + '</think>' }}
        {%- endif %}
        {{- message.content if message.content is not none }}
        {%- for call in message.tool_calls or [] %}
            {{- '<|call|>' + call.function.name + '\\n```json\\n' + call.function.arguments }}
            {{- '\\n```' }}
        {%- endfor %}
        {{- eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '<|output|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{{- '<|Assistant|>' if add_generation_prompt }}"""

ITEMS = """{%- set ns = namespace(asked=false) %}
{%- for message in messages if message.role == 'user' %}
    {%- if not (message.content or '').startswith('<tool_response>') %}
        {%- set ns.asked = true %}
    {%- endif %}
{%- endfor %}
{%- if not ns.asked %}{{ raise_exception('Nobody asks anything.') }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('The system speaks first.') }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content is not none %}
        {{- raise_exception('What kind of content is this?') }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<function=' + call.function.name + '>' }}
        {%- for name, value in call.function.arguments | items %}
            {{- '\\n<parameter=' + name + '>' + (value if value is string else value | tojson) }}
        {%- endfor %}
        {{- '\\n</function>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt }}"""

CHANNELS = """{%- if messages[0].role in ['system', 'developer'] %}
    {{- '<|start|>developer<|message|>' + messages[0].content + '<|end|>' }}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- set ns = namespace(called=none) %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- if message.tool_calls %}
            {%- if message.content and message.thinking %}
                {{- raise_exception('Thoughts are content here.') }}
            {%- endif %}
            {%- if message.content or message.thinking %}
                {{- '<|start|>assistant<|channel|>analysis<|message|>' }}
                {{- (message.content or message.thinking) + '<|end|>' }}
            {%- endif %}
            {%- set call = message.tool_calls[0].function %}
            {{- '<|start|>assistant to=' + call.name + '<|message|>' + call.arguments | tojson }}
            {{- '<|call|>' }}
            {%- set ns.called = call.name %}
        {%- else %}
            {%- if loop.last %}{{ raise_exception('Nothing is left to say.') }}{% endif %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
            {%- set ns.called = none %}
        {%- endif %}
    {%- elif message.role == 'tool' %}
        {%- if ns.called is none %}{{ raise_exception('Nobody called.') }}{% endif %}
        {{- '<|start|>' + ns.called + ' to=assistant<|message|>' + message.content | tojson }}
        {{- '<|end|>' }}
    {%- elif message.role == 'user' %}
        {{- '<|start|>user<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{{- '<|start|>assistant' if add_generation_prompt }}"""

TOOL_FAMILIES = {
    "qwen2.5 with tools": QWEN25,
    "llama3.1": LLAMA31,
    "hermes": HERMES,
    "mistral with tools": MISTRAL,
    "text arguments": TEXT_ARGUMENTS,
    "items": ITEMS,
    "channels": CHANNELS,
}


def _calls(*calls: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {
                "id": f"call0000{index}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for index, (name, arguments) in enumerate(calls)
        ],
    }


def _result(content: str, index: int = 0) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": f"call0000{index}"}


_ASK = {"role": "user", "content": "How warm is it?"}
_SAID = {"role": "assistant", "content": "It is 22 °C."}
_THANKS = {"role": "user", "content": "Thanks!"}
_LOOK = ("look", '{"where": "Ulm", "when": {"day": 1, "é": [true, null, 1.5]}}')
_WAIT = ("wait", "{}")

TOOL_CONVERSATIONS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "one call": [_ASK, _calls(_LOOK), _result('{"t": "22 <b>"}'), _SAID, _THANKS],
    "calls in turn": [
        _ASK,
        _calls(_LOOK),
        _result("22"),
        _calls(_WAIT),
        _result("ok"),
        _SAID,
        _THANKS,
    ],
    "no content": [_ASK, _calls(_WAIT, content=""), _result("ok")],
    "content beside calls": [_ASK, _calls(_LOOK, content="Let me see."), _result("22")],
    "two calls": [_ASK, _calls(_LOOK, _WAIT), _result("22"), _result("ok", 1), _SAID, _THANKS],
    "call and user": [_ASK, _calls(_LOOK), _result("22"), _THANKS],
    "text for arguments": [_ASK, _calls(("look", 'Ulm & "all"')), _result("22"), _SAID, _THANKS],
}
"""In each, null or empty content, ids of nine characters, arguments as OpenAI's API has them."""
