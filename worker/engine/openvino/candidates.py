"""The largest entries of a row over the vocabulary, without sorting or partitioning all of it."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
IdArray: TypeAlias = npt.NDArray[np.intp]

_COLUMNS = 512


def largest_ids(values: FloatArray, count: int) -> IdArray:
    """Ids of the `count` largest values (at least 1) in ascending order; of equals the lowest."""
    if count >= values.size:
        return np.arange(values.size)
    ids = np.flatnonzero(values >= _floor(values, count))
    found = values[ids]
    edge = np.partition(found, ids.size - count)[ids.size - count]
    above = ids[found > edge]
    at = ids[found == edge][: count - above.size]
    return np.sort(np.concatenate([above, at]))


def _floor(values: FloatArray, count: int) -> np.float32:
    """A value that at least `count` others reach, mostly not many more.

    The maxima of columns are as many different entries: the count-th largest of them is such one.
    """
    rows = values.size // _COLUMNS
    if rows and count <= _COLUMNS // 2:
        maxima = values[: rows * _COLUMNS].reshape(rows, _COLUMNS).max(axis=0)
        floor: np.float32 = np.partition(maxima, _COLUMNS - count)[_COLUMNS - count]
    else:
        floor = np.partition(values, values.size - count)[values.size - count]
    return floor
