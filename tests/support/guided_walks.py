"""Random answers that a guide allows, as the CPU engine draws them, and what a parser reads there.

The engine's own compiler and matcher say which tokens may come; a random walk takes any of them. It
leans towards tokens that close something, since uniform draws would seldom end.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from headrace.worker.v1.generation_pb2 import Guide as WireGuide
from tokenizer_svc.formats.events import EventKind
from tokenizer_svc.formats.seam import EventParser
from worker.engine.openvino.guide_compiler import GuideCompiler
from worker.engine.seam import Guide

_END = "<end>"
_CLOSING = frozenset('"}]>\n')
_WORDS = (
    *("tool", "_call", "<tool", "call>", "</", "think", ">\n", "\n\n", "function", "=f>", "par"),
    *("ameter", "name", '"name"', ": ", '": ', '", "', '"}', "}}", '"}}', "]]", "}\n", '{"', "[["),
    *("</think>", "\n</parameter>\n", "<tool_call>", "\n</function>\n"),
    *("true", "null", "12", "ab", "arguments", "TOOL", "_CALLS]", "</parameter>", "ARGS]", "\n</"),
)


@dataclass
class Read:
    """What a parser made of an output: texts, and calls as name and arguments' JSON."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    num_broken: int = 0


class Walker:
    """Walks guides over a vocabulary of bytes, some words, and these special tokens."""

    def __init__(self, special: Sequence[str] = ()) -> None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        spelled = (
            word.replace(" ", "Ġ").replace("\n", "Ċ") for word in _WORDS if word not in special
        )
        known = {piece: number for number, piece in enumerate(dict.fromkeys((*alphabet, *spelled)))}
        special_tokens = [*special, _END]
        self.special_ids = {text: len(known) + at for at, text in enumerate(special_tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=known | self.special_ids, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(special_tokens)
        self._tokenizer = tokenizer
        self.end = self.special_ids[_END]
        size = len(known) + len(special_tokens)
        texts = [
            tokenizer.decode([token_id], skip_special_tokens=False) for token_id in range(size)
        ]
        self._closing = np.array([bool(_CLOSING & set(text)) for text in texts])
        self._compiler = GuideCompiler(tokenizer.to_str(), {self.end}, size, max_bytes=1 << 20)

    def walk(self, guide: WireGuide, seed: int, most: int = 600) -> str | None:
        """A whole answer; None where it did not end within so many tokens."""
        chance = np.random.default_rng(seed)
        lean = random.Random(seed).choice([0.2, 0.5, 0.9])
        matcher = self._compiler.compile(as_engine_guide(guide), [])
        ids: list[int] = []
        while len(ids) < most:
            allowed = matcher.allowed()
            assert allowed.any(), (matcher.problem, self.decoded(ids))
            if allowed[self.end] and chance.random() < 0.3:
                return self.decoded(ids)
            allowed[self.end] = allowed[self.end] and allowed.sum() == 1
            closing = np.flatnonzero(allowed & self._closing)
            leans = closing.size and chance.random() < lean * len(ids) / most * 3
            token_id = int(chance.choice(closing if leans else np.flatnonzero(allowed)))
            if token_id == self.end:
                return self.decoded(ids)
            ids.append(token_id)
            assert matcher.consume([token_id])
        return None

    def allows(self, guide: WireGuide, text: str) -> bool:
        """Whether the text, special tokens in it read as such, is a whole answer."""
        matcher = self._compiler.compile(as_engine_guide(guide), [])
        if not all(matcher.consume([each]) for each in self._tokenizer.encode(text).ids):
            return False
        return bool(matcher.allowed()[self.end])

    def decoded(self, ids: Sequence[int]) -> str:
        """The text, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


def as_engine_guide(guide: WireGuide) -> Guide:
    """The engine's guide of one on the wire."""
    kind = guide.WhichOneof("kind")
    assert kind is not None
    if kind == "choice":
        return Guide(kind, json.dumps(list(guide.choice.alternatives)))
    return Guide(kind, "" if kind == "json_object" else str(getattr(guide, kind)))


def read(parser: EventParser, text: str) -> Read:
    """What the parser makes of a whole output."""
    found = Read()
    name = arguments = ""
    for event in [*parser.feed(text), *parser.finish()]:
        match event.kind:
            case EventKind.CONTENT:
                found.content += event.text
            case EventKind.REASONING:
                found.reasoning += event.text
            case EventKind.CALL_BEGIN:
                name, arguments = event.text, ""
            case EventKind.ARGUMENTS:
                arguments += event.text
            case EventKind.CALL_END:
                found.calls.append((name, arguments))
            case EventKind.CALL_BROKEN:
                found.num_broken += 1
    return found
