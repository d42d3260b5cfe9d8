"""A Dockerfile as its instructions, stage by stage."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Self

_CONTINUED = re.compile(r"\\\n\s*")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `verb` in upper case, `text` what follows, on one line."""

    verb: str
    text: str


@dataclass(slots=True)
class Stage:
    """One FROM and what follows; `base` with the defaults of arguments put in."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def texts(self, verb: str) -> list[str]:
        """What follows each `verb`."""
        return [one.text for one in self.instructions if one.verb == verb]

    def environment(self) -> dict[str, str]:
        """What ENV sets, in the form NAME=value."""
        words = [word for text in self.texts("ENV") for word in text.split()]
        return dict(word.split("=", 1) for word in words)

    def sources(self) -> list[str]:
        """Paths of the build context that COPY takes."""
        copies = [text.split() for text in self.texts("COPY") if "--from" not in text]
        return [source for words in copies for source in words[:-1]]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The whole file; its last stage is the image."""

    stages: tuple[Stage, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it; what it cannot read raises ValueError or KeyError."""
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        arguments: dict[str, str] = {}
        stages: list[Stage] = []
        for line in _CONTINUED.sub("", "\n".join(lines)).splitlines():
            if not line.strip():
                continue
            verb, text = line.split(maxsplit=1)
            if verb == "FROM":
                base, *alias = text.split()
                name = alias[1] if alias else ""
                stages.append(Stage(Template(base).substitute(arguments), name))
            elif stages:
                stages[-1].instructions.append(Instruction(verb, text))
            elif verb == "ARG":
                arguments.update([text.split("=", 1)])
            else:
                raise ValueError(f"{path}: {verb} before the first FROM")
        return cls(tuple(stages))

    @property
    def image(self) -> Stage:
        """The stage that becomes the image."""
        return self.stages[-1]

    def entrypoint(self) -> list[str]:
        """The command, which must be in the form of a list."""
        [text] = self.image.texts("ENTRYPOINT")
        words: list[str] = json.loads(text)
        return words
