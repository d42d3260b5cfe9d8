"""A rendered request as a page for people, or as JSON for machines."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.cli.render_view import RenderedView, TokenText

_LABEL_COLUMNS = 12
_JSON_MARK = "%json"
_INDENT = 2
_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}


def json_report(view: RenderedView) -> str:
    """One JSON object; a guide's schema is text, as the engine gets it."""
    chat = view.request.chat
    document: dict[str, Any] = {
        "model": view.model.name,
        "requested_model": chat.model,
        "profile": view.request.profile,
        "tokenizer_fingerprint": view.model.tokenizer_fingerprint,
        "prompt": view.prompt,
        "prompt_tokens": len(view.token_ids),
        "context_length": view.model.context_length,
        "context_left": view.tokens_left,
        "max_tokens": chat.max_tokens,
        "token_ids": view.token_ids,
        "block_size": view.blocks.block_size,
        "block_digests": view.digests,
        "output_format": view.output_format,
        "begins_in_reasoning": view.begins_in_reasoning,
        "guide": None if view.guide is None else {"kind": view.guide[0], "text": view.guide[1]},
        "ignored": chat.ignored,
        "clamped": dict(chat.clamped),
    }
    if view.texts is not None:
        document["tokens"] = [_json_token(view.texts[token_id]) for token_id in view.token_ids]
    return json.dumps(document, ensure_ascii=False, indent=_INDENT) + "\n"


def page(view: RenderedView) -> str:
    """What is said of the prompt, then the prompt as the model reads it, then the rest.

    Control characters but tabs and ends of lines are shown as escapes: terminals obey them.
    """
    lines = [f"{name.ljust(_LABEL_COLUMNS)}{said}" for name, said in _summary(view)]
    parts = ["\n".join(lines), f"--- prompt ---\n{view.prompt}"]
    if view.texts is not None:
        rows = (_row(place, view.texts[id_]) for place, id_ in enumerate(view.token_ids))
        parts.append("\n".join(["--- tokens ---", *rows]))
    if view.digests:
        rows = (f"{place:>5}  {digest}" for place, digest in enumerate(view.digests))
        parts.append("\n".join(["--- block digests ---", *rows]))
    if view.guide is not None:
        kind, text = view.guide
        parts.append(f"--- guide: {kind} ---\n{_pretty(text)}")
    text = "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
    return text.translate(_ESCAPES)


def _summary(view: RenderedView) -> Iterator[tuple[str, str]]:
    request, chat = view.request, view.request.chat
    asked = "" if chat.model == view.model.name else f"   (the request says {chat.model})"
    yield "model", f"{view.model.name}{asked}"
    yield "profile", request.profile
    yield (
        "prompt",
        f"{len(view.token_ids)} tokens; {view.tokens_left} of {view.model.context_length} are left",
    )
    if chat.max_tokens is not None:
        more = chat.max_tokens - view.tokens_left
        yield "max_tokens", f"{chat.max_tokens}{f', {more} more than are left' if more > 0 else ''}"
    yield "blocks", _blocks(view)
    opened = ", which the prompt's end opens in its thoughts" if view.begins_in_reasoning else ""
    yield "answer", f"format {view.output_format}{opened}"
    yield "guide", "none: any text" if view.guide is None else f"{view.guide[0]}, below"
    yield "ignored", ", ".join(chat.ignored) or "nothing"
    clamped = (f"{name} to {value:g}" for name, value in chat.clamped)
    yield "clamped", ", ".join(clamped) or "nothing"


def _blocks(view: RenderedView) -> str:
    blocks = view.blocks
    lora = f", adapter {blocks.lora}" if blocks.lora else ""
    salt = ", salted" if blocks.cache_salt else ""
    return f"{len(view.digests)} full, of {blocks.block_size} tokens{lora}{salt}"


def _row(place: int, token: TokenText) -> str:
    special = "  special" if token.is_special else ""
    return f"{place:>5}  {token.token_id:>7}  {json.dumps(token.text, ensure_ascii=False)}{special}"


def _json_token(token: TokenText) -> Mapping[str, Any]:
    return {"id": token.token_id, "text": token.text, "special": token.is_special}


def _pretty(text: str) -> str:
    """A guide's text, the JSON in it spread over lines: in a grammar what follows `%json`."""
    if _JSON_MARK not in text:
        return _spread(text)
    head, *others = text.split(_JSON_MARK)
    return head + "".join(f"{_JSON_MARK}{_spread(part)}" for part in others)


def _spread(text: str) -> str:
    """Leading JSON of the text indented, what follows it left as it is."""
    begin = len(text) - len(text.lstrip())
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except ValueError:
        return text
    if not isinstance(value, dict | list):
        return text
    return text[:begin] + json.dumps(value, ensure_ascii=False, indent=_INDENT) + text[end:]
