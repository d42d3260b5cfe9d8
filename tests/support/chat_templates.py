"""Chat templates in the manner of the well-known families, and conversations to render with them.

Each uses the Jinja features of its family: what the template of a downloaded model would ask of us.
"""

from collections.abc import Mapping, Sequence

Messages = Sequence[Mapping[str, str | None]]

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' +
message['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

SMOLLM2 = """{% for message in messages %}
    {% if loop.first and messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\nYou are a small and helpful model.<|im_end|>\n' }}
    {%- endif %}
{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The first message may be the system's. -#}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- "Today is " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One tool call at a time.") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- endif %}
    {{- "\\n\\nTools:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first)
        or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

QWEN3 = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool_response>')
        and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n') %}
            {%- set thought = thought.split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') }}
            {{- '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant take turns: " + message.role ~ ns.index) }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- else %}
        {{- raise_exception("Only user, assistant and system have a turn.") }}
    {%- endif %}
{%- endfor %}"""

TURNS = """{{ bos_token }}{% if messages[0]['role'] == 'system'
%}{{ raise_exception('No system here') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate') }}
{% endif %}
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}
{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""

MACROS = """{%- macro header(role, name=none) -%}
    <|start|>{{ role }}{% if name %} name={{ name }}{% endif %}<|message|>
{%- endmacro -%}
{%- macro described(values, depth=0) -%}
    {%- for key, value in values.items() | sort -%}
        {{ '  ' * depth }}{{ key }}:
        {%- if value is mapping %}
{{ described(value, depth + 1) }}
        {%- elif value is none %} nothing
        {%- else %} {{ value | tojson }}
        {%- endif %};{{ '\n' if not loop.last }}
    {%- endfor -%}
{%- endmacro -%}
{%- macro framed(title) %}[{{ title | upper }}: {{ caller() | trim }}]{% endmacro -%}
{%- set roles = messages | map(attribute='role') | unique | list -%}
{{ header('system') }}Roles: {{ roles | join(', ') }}. Today: {{ strftime_now('%Y-%m-%d') }}.
{{- '\nQuiet.' if messages | selectattr('role', 'equalto', 'system') | list | length == 0 }}
{% for message in messages if message.content is not none -%}
    {%- if loop.index > 6 %}{% break %}{% endif -%}
    {%- if message.content | length == 0 %}{{ header(message.role, message.name) }}(empty)
{% continue %}{% endif -%}
    {{ header(message.role, message.name | default('nobody')) }}{{ message.content }}<|end|>
{% else %}nothing to say
{% endfor -%}
{% call framed('details') %}{{ described(messages[0]) }}{% endcall %}
{{ messages | rejectattr('content', 'none') | map(attribute='content') | map('length') | sum }}
{{- [1, 2] + [messages | length] }} {{ messages[-1].role | capitalize ~ 1 ~ none }}
{{ messages | last == messages[-1] }}
{% if add_generation_prompt %}{{ header('assistant') }}{% endif %}"""

GENERATION = """{%- set ns = namespace(system='', parts=[], count=0) -%}
{%- for message in messages -%}
    {%- if message['role'] in ['system', 'developer'] -%}
        {%- set content = message['content'] | replace('\r\n', '\n') -%}
        {%- set ns.system = ns.system + ('\n\n' if ns.system else '') + content -%}
    {%- endif -%}
{%- endfor -%}
{{ bos_token }}{{ ns.system | indent(2, first=true) }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}<|User|>{{ message['content'] }}
        {%- set ns.count = ns.count + 1 %}{% endif %}
    {%- if message['role'] == 'assistant' and message['content'] is not none %}
        {%- generation %}<|Assistant|>
            {{- message['content'].split('</think>') | last | trim }}{{ eos_token }}
            {%- set ns.parts = ns.parts + [message['content'][:5]] %}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' %}<|Assistant|>{% endif %}
{{ ns.parts | tojson }}{{ {'users': ns.count, 'é': '<&>'} | tojson(indent=2) }}
{% raw %}{{ not a variable }}{% endraw %}
{# a comment #}
{% filter upper %}done {{ '%s of %d' % ('all', ns.count) }}{% endfilter %}"""

FAMILIES = {
    "chatml": CHATML,
    "smollm2": SMOLLM2,
    "llama3": LLAMA3,
    "qwen2.5": QWEN25,
    "qwen3": QWEN3,
    "mistral": MISTRAL,
    "turns": TURNS,
    "macros": MACROS,
    "generation": GENERATION,
}


def _said(*turns: tuple[str, str | None]) -> Messages:
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS: Mapping[str, Messages] = {
    "user": _said(("user", "Hello")),
    "system and user": _said(("system", "  Be brief. \n"), ("user", "Hello")),
    "developer": _said(("developer", "Be brief."), ("user", "Hello")),
    "late system": _said(("user", "Hello"), ("system", "Be brief."), ("user", "Again")),
    "two systems": _said(("system", "One\r\ntwo"), ("system", "Three"), ("user", "Hello")),
    "turns": _said(
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", " Hi! \n"),
        ("user", "Why?"),
        ("assistant", "Because."),
        ("user", "And now?"),
    ),
    "no system": _said(("user", "1"), ("assistant", "2"), ("user", "3")),
    "same role twice": _said(("user", "1"), ("user", "2")),
    "ends with the assistant": _said(("user", "1"), ("assistant", "2")),
    "starts with the assistant": _said(("assistant", "1"), ("user", "2")),
    "only a system": _said(("system", "1")),
    "names": [
        {"role": "user", "content": "Hello", "name": "Bob"},
        {"role": "assistant", "content": "Hi", "name": "Ann <3"},
        {"role": "user", "content": "Bye", "name": ""},
    ],
    "empty contents": _said(("system", ""), ("user", ""), ("assistant", ""), ("user", "")),
    "null content": _said(("user", "Hello"), ("assistant", None), ("user", "Well?")),
    "null content of a user": _said(("user", None)),
    "unicode": _said(
        ("user", "日本語 Grüße ça 😀👩‍👩‍👧 e\u0301 \u202eabc\u202c \ufeff\u2028\x00\x7f")
    ),
    "braces": _said(("user", "{{ 7 * 7 }} {% raw %}{# x #}{% endraw %} %} }} {%- set a = 1 -%}")),
    "escapes": _said(("user", "<b>&amp;\"'\\ \\n {'a': 1} %s %(x)s {0} $1")),
    "whitespace": _said(("user", "\n\n  lines \r\n\twith \u00a0 space  \n"), ("assistant", "\n")),
    "thoughts": _said(
        ("user", "Think"),
        ("assistant", "<think>\nLong thoughts\n</think>\n\nShort answer"),
        ("user", "<tool_response>x</tool_response>"),
        ("assistant", "<think>unfinished"),
    ),
    "long": _said(*[("user", "abc " * 50), ("assistant", "def " * 50)] * 20, ("user", "end")),
}
