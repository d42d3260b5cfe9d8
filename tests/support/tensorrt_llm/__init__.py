"""Where the double of tensorrt_llm lies, and how a test gets it; see README.md.

`LIBRARY` on the path makes `import tensorrt_llm` work; `TORCH` gives the little of torch that a
caller of it needs. Neither is on the path of the test suite by itself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).parent
LIBRARY = _HERE / "library"
TORCH = _HERE / "torch_stand_in"
_NAMES = ("tensorrt_llm", "torch")


@contextmanager
def importable(*, with_torch: bool = True) -> Iterator[None]:
    """`import tensorrt_llm` works for as long as the block runs.

    The modules stay loaded afterwards, so that classes keep their identity from one block to the
    next, but are out of sight: nobody outside finds a library that is not installed.
    """
    folders = [str(LIBRARY), str(TORCH)] if with_torch else [str(LIBRARY)]
    sys.path[:0] = folders
    sys.modules.update(_hidden)
    _hidden.clear()
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)
        ours = {name: module for name, module in sys.modules.items() if _is_ours(name)}
        _hidden.update(ours)
        for name in ours:
            del sys.modules[name]


_hidden: dict[str, object] = {}


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _NAMES
