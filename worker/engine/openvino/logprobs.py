"""Log probabilities as the model gave them: before penalties, biases, temperature and masks."""

import numpy as np

from worker.engine.openvino.candidates import FloatArray, largest_ids
from worker.engine.seam import TokenLogprob


def token_logprob(row: FloatArray, token_id: int, num_alternatives: int) -> TokenLogprob:
    """Of the drawn token, and of the most probable ones; `row` holds finite, unedited logits."""
    # Relative to the largest, so that nothing overflows; the sum in double precision.
    highest = row.max()
    total = float(np.log(np.exp(row - highest).sum(dtype=np.float64)))
    logprob = float(row[token_id] - highest) - total
    if not num_alternatives:
        return TokenLogprob(logprob)
    ids = largest_ids(row, num_alternatives)
    ids = ids[np.argsort(-row[ids], kind="stable")]
    values = (row[ids] - highest).astype(np.float64) - total
    return TokenLogprob(logprob, tuple(zip(ids.tolist(), values.tolist(), strict=True)))
