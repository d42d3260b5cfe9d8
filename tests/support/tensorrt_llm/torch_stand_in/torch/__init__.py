"""The little of torch that a caller of tensorrt_llm needs: vectors, types, and what GPUs there are.

Not torch: vectors are NumPy arrays inside, and everything else is missing by name.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from torch import cuda

__version__ = "2.9.1"


class dtype:  # noqa: N801 (torch's name)
    """A type of elements."""

    def __init__(self, name: str, kind: type[np.generic]) -> None:
        self.name = name
        self.kind = kind

    def __repr__(self) -> str:
        return f"torch.{self.name}"


float32 = dtype("float32", np.float32)
float64 = dtype("float64", np.float64)
int32 = dtype("int32", np.int32)
int64 = dtype("int64", np.int64)
_TYPES = {np.dtype(d.kind): d for d in (float32, float64, int32, int64)}


class Tensor:
    """A vector on the host."""

    def __init__(self, array: Any) -> None:
        self._array = array

    @property
    def dtype(self) -> "dtype":
        """Of the elements."""
        return _TYPES[self._array.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        return tuple(self._array.shape)

    def numel(self) -> int:
        """Number of elements."""
        return int(self._array.size)

    def numpy(self) -> Any:
        """The array itself."""
        return self._array

    def tolist(self) -> list[Any]:
        """Python numbers."""
        values: list[Any] = self._array.tolist()
        return values

    def to(self, kind: Any) -> "Tensor":
        """As another type."""
        return Tensor(self._array.astype(kind.kind))

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> "Tensor":
        return Tensor(np.asarray(self._array[_plain(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._array[_plain(index)] = _plain(value)

    def item(self) -> Any:
        """The one element."""
        return self._array.item()


def zeros(*size: int, dtype: "dtype" = float32) -> Tensor:
    """A tensor of zeros."""
    return Tensor(np.zeros(size, dtype.kind))


def tensor(data: Sequence[Any], dtype: "dtype | None" = None) -> Tensor:
    """A tensor of numbers; floats are float32 unless told otherwise."""
    array = np.asarray(data)
    if dtype is None and array.dtype == np.float64:
        dtype = float32
    return Tensor(array if dtype is None else array.astype(dtype.kind))


def from_numpy(array: Any) -> Tensor:
    """The same memory."""
    return Tensor(array)


def _plain(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


__all__ = [
    "Tensor",
    "cuda",
    "dtype",
    "float32",
    "float64",
    "from_numpy",
    "int32",
    "int64",
    "tensor",
    "zeros",
]
