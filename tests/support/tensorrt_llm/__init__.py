"""Where the double of tensorrt_llm lies, and how a test gets it; see README.md.

`LIBRARY` on the path makes `import tensorrt_llm` work; `TORCH` gives the little of torch that a
caller of it needs. Neither is on the path of the test suite by itself.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).parent
LIBRARY = _HERE / "library"
TORCH = _HERE / "torch_stand_in"

_hidden: dict[str, ModuleType] = {}
_users: Counter[str] = Counter()


@contextmanager
def importable(*, with_torch: bool = False) -> Iterator[None]:
    """`import tensorrt_llm` works for as long as the block runs; blocks may be nested.

    The modules stay loaded afterwards, so that classes keep their identity from one block to the
    next, but are out of sight: nobody outside finds a library that is not installed. With the
    stand-in for torch in sight transformers must not be imported for the first time: it takes it
    for the real one.
    """
    folders = {"tensorrt_llm": str(LIBRARY)}
    if with_torch:
        folders["torch"] = str(TORCH)
    for package, folder in folders.items():
        sys.path.insert(0, folder)
        _users[package] += 1
        _move(package, _hidden, sys.modules)
    try:
        yield
    finally:
        for package, folder in folders.items():
            sys.path.remove(folder)
            _users[package] -= 1
            if not _users[package]:
                _move(package, sys.modules, _hidden)


def _move(package: str, source: dict[str, ModuleType], target: dict[str, ModuleType]) -> None:
    """Move a package's modules from one mapping to the other."""
    for name in [name for name in source if name.partition(".")[0] == package]:
        target[name] = source.pop(name)
