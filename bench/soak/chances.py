"""What clients ask for: drawn, and the same again from the same random.Random."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_WORDS = [
    "river",
    "wheel",
    "gate",
    "stone",
    "water",
    "light",
    "valley",
    "copper",
    "iron",
    "mill",
    "bridge",
    "salmon",
    "ladder",
    "winter",
    "pipe",
    "turbine",
    "lamp",
    "engineer",
    "morning",
    "power",
    "measure",
    "channel",
    "slow",
    "quiet",
    "heavy",
    "narrow",
    "bright",
    "cold",
]
# In many prompts, so that clients share blocks.
_COMMON = "You answer questions about a water power station, briefly and in plain words. " * 6


def chat_body(chance: random.Random, model: str, *, stream: bool) -> dict[str, Any]:
    """A chat request whose length, sampling and number of outputs are anybody's guess."""
    messages = [{"role": "user", "content": _text(chance, 600)}]
    if chance.random() < 0.5:
        messages.insert(0, {"role": "system", "content": _COMMON})
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": _skewed(chance, 200),
        "temperature": chance.choice((0, 0.3, 0.7, 1.0)),
        "top_p": chance.choice((0.8, 0.95, 1.0)),
        "n": chance.choices((1, 2, 3, 4), (12, 3, 1, 1))[0],
    }
    if chance.random() < 0.3:
        body |= {"presence_penalty": chance.uniform(-2, 2), "frequency_penalty": chance.random()}
    if chance.random() < 0.2:
        body |= {"repetition_penalty": chance.uniform(0.9, 1.4)}
    if chance.random() < 0.2:
        body |= {"stop": chance.sample(_WORDS, 2), "seed": chance.randrange(2**40)}
    if chance.random() < 0.1:
        body |= {"logit_bias": {str(chance.randrange(40_000)): chance.uniform(-5, 5)}}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


@dataclass(frozen=True)
class GuidedAsk:
    """A guided generation: `kind` is the guide's field, `guide` a text or the alternatives."""

    question: str
    kind: str
    guide: str | list[str]
    max_tokens: int
    n: int


def guided_ask(chance: random.Random) -> GuidedAsk:
    """A guide of each kind in turn; hardly two are alike, so that none comes ready-made."""
    kind = chance.choice(("json_schema", "regex", "choice"))
    guides: dict[str, Callable[[random.Random], str | list[str]]]
    guides = {"json_schema": _schema, "regex": _regex, "choice": _alternatives}
    return GuidedAsk(
        question=_text(chance, 60),
        kind=kind,
        guide=guides[kind](chance),
        max_tokens=chance.randrange(4, 120),
        n=chance.choice((1, 1, 1, 2)),
    )


def _schema(chance: random.Random) -> str:
    kinds: tuple[dict[str, object], ...] = (
        {"type": "string", "maxLength": 12},
        {"type": "integer", "minimum": 0, "maximum": 999},
        {"type": "boolean"},
        {"enum": chance.sample(_WORDS, 3)},
        {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    )
    names = [f"{word}_{chance.randrange(1000)}" for word in chance.sample(_WORDS, 3)]
    return json.dumps(
        {
            "type": "object",
            "properties": {name: chance.choice(kinds) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    )


def _regex(chance: random.Random) -> str:
    return f"(yes|no), {chance.choice(_WORDS)} [0-9]{{{chance.randrange(1, 6)}}} [a-z]{{2,9}}"


def _alternatives(chance: random.Random) -> list[str]:
    return [f"{word} {chance.randrange(1000)}" for word in chance.sample(_WORDS, 5)]


def _text(chance: random.Random, most_words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=_skewed(chance, most_words)))


def _skewed(chance: random.Random, most: int) -> int:
    """1 to `most`, each doubling as likely as another: mostly short, at times long."""
    return max(1, round(math.exp(chance.uniform(0, math.log(most)))))
