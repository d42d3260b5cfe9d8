"""A patch that takes the handling of one of the library's behaviours out of the engine."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
ENGINE = "worker/engine/tensorrt_llm"
HERE = "tests/contract/engine_tensorrt_llm"
UNIT = "tests/unit/worker/tensorrt_llm"


@dataclass(frozen=True)
class Patch:
    """`old` becomes `new` in a file of the engine; `tests` are then red.

    `number` is the behaviour's in the double's table of switches, `removes` what is lost.
    """

    number: int
    removes: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file, from the root of the tree."""
        return Path(ENGINE) / self.file

    def applied(self, text: str) -> str:
        """The file's patched text. Raises ValueError where `old` is not there exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.path} has {count} times what is to be patched: {self.old!r}")
        return text.replace(self.old, self.new)
