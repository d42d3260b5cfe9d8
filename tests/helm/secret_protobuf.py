"""Secrets as Helm writes them: Kubernetes' protobuf, of which only these few fields are read.

After k8s.io/api/core/v1/generated.proto and k8s.io/apimachinery: a magic number, an envelope
(1 type, 2 raw), Secret (1 metadata, 2 data, 3 type), ObjectMeta (1 name, 3 namespace, 11 labels).
"""

import base64
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\x00"


def decode_secret(message: bytes) -> dict[str, Any]:
    """The Secret as JSON has it."""
    assert message.startswith(MAGIC)
    envelope = _fields(message[len(MAGIC) :])
    secret = _fields(envelope[2][0])
    metadata = _fields(secret[1][0])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": metadata[1][0].decode(),
            "namespace": metadata[3][0].decode(),
            "labels": {key: value.decode() for key, value in _map(metadata.get(11, []))},
        },
        "data": {key: base64.b64encode(value).decode() for key, value in _map(secret.get(2, []))},
        "type": secret[3][0].decode(),
    }


def _map(entries: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for entry in entries:
        fields = _fields(entry)
        yield fields[1][0].decode(), fields.get(2, [b""])[0]


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """Length-delimited fields by number; numbers are skipped."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        size, at = _varint(message, at)
        if tag & 7 == 2:
            found.setdefault(tag >> 3, []).append(message[at : at + size])
            at += size
        else:
            assert tag & 7 == 0, tag
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
