"""Names of KV blocks: a chained digest over a prompt's full blocks.

A block's digest is the first 16 bytes of BLAKE2b over its parent's digest and the block's token
ids as little-endian u32. The chain is rooted in what else decides the block's contents: block size,
model, LoRA adapter and salt, each text preceded by its length in bytes as little-endian u32.
protos/README.md states the format and its test vectors; all services share this file.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

DIGEST_BYTES = 16


def root_digest(block_size: int, model: str, lora: str = "", cache_salt: str = "") -> bytes:
    """Parent of a prompt's first block: 16 bytes. `block_size` is in tokens, above 0."""
    texts = [text.encode() for text in (model, lora, cache_salt)]
    parts = [struct.pack("<I", block_size)]
    parts += [struct.pack("<I", len(text)) + text for text in texts]
    return blake2b(b"".join(parts)).digest()[:DIGEST_BYTES]


def child_digest(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """Digest of one full block behind `parent`."""
    ids = np.asarray(token_ids, dtype="<u4")
    return blake2b(parent + ids.tobytes()).digest()[:DIGEST_BYTES]


def block_digests(root: bytes, block_size: int, token_ids: Sequence[int]) -> list[bytes]:
    """Digests of all full blocks of `token_ids`, in order; the last, partial block has none."""
    raw = np.asarray(token_ids, dtype="<u4").tobytes()
    step = block_size * 4
    digests = []
    parent = root
    for start in range(0, len(raw) - step + 1, step):
        parent = blake2b(parent + raw[start : start + step]).digest()[:DIGEST_BYTES]
        digests.append(parent)
    return digests
