"""Which output format a model writes, from its chat template and its special tokens.

Calls, the first that holds:
- the template writes `<function=` and `<parameter=`: qwen3_coder;
- the template or the vocabulary has [TOOL_CALLS]: mistral;
- the template writes `<tool_call>`: hermes;
- the vocabulary has <|python_tag|> and the template speaks of `parameters`: llama3_json.
Thoughts, where the template writes `</think>`: deepseek_r1 with DeepSeek's mark of the assistant's
turn, else qwen3. Nothing of this: text.
"""

from collections.abc import Container

from tokenizer_svc.formats import hermes, llama3_json, mistral, qwen3_coder, reasoning
from tokenizer_svc.formats.catalog import TEXT

_DEEPSEEK_TURN = "<\uff5cAssistant\uff5c>"


def detected_format(template: str, special_tokens: Container[str]) -> str:
    """The format's name, as the catalog has it."""
    parts = filter(None, (_thoughts(template), _calls(template, special_tokens)))
    return "+".join(parts) or TEXT


def _thoughts(template: str) -> str | None:
    if reasoning.CLOSE not in template:
        return None
    return "deepseek_r1" if _DEEPSEEK_TURN in template else "qwen3"


def _calls(template: str, special_tokens: Container[str]) -> str | None:
    if qwen3_coder.FUNCTION in template and qwen3_coder.PARAMETER in template:
        return "qwen3_coder"
    if mistral.TOOL_CALLS in template or mistral.TOOL_CALLS in special_tokens:
        return "mistral"
    if hermes.OPEN in template:
        return "hermes"
    if llama3_json.PYTHON_TAG in special_tokens and "parameters" in template:
        return "llama3_json"
    return None
