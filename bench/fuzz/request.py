"""One request as it is sent."""

import json
from base64 import b64encode
from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal["positive", "negative", "bytes", "path"]
_SHOWN_BYTES = 2000


@dataclass(frozen=True, slots=True)
class FuzzRequest:
    """A request; `case` is `batch.index`, from which it can be drawn again under the same seed."""

    case: str
    kind: Kind
    template: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    def recorded(self) -> dict[str, object]:
        """All of it, as JSON values."""
        body = None if self.body is None else b64encode(self.body).decode()
        return {**asdict(self), "body": body}

    def described(self) -> str:
        """A line of JSON for whoever reads of a failure."""
        body = None if self.body is None else self.body[:_SHOWN_BYTES].decode("utf-8", "replace")
        return json.dumps(
            {
                "case": self.case,
                "kind": self.kind,
                "method": self.method,
                "target": self.target,
                "headers": self.headers,
                "body": body,
                "body_bytes": len(self.body or b""),
            }
        )
