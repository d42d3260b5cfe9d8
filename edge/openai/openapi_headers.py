"""Response headers as the OpenAPI document has them."""

from collections.abc import Collection, Mapping
from typing import Any

EVERYWHERE = ("x-request-id",)
"""On every answer."""
TRACED = ("traceparent",)
"""On answers to requests that belong to a trace."""
TOLD = ("x-headrace-ignored", "x-headrace-clamped")
"""On answers to requests of which something was taken otherwise than it was asked for."""
LIMITED = tuple(
    f"x-ratelimit-{figure}-{measure}"
    for measure in ("requests", "tokens")
    for figure in ("limit", "remaining", "reset")
)
"""On answers to callers whose key has such limits."""


def _header(description: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind, **more}}


def _limited(name: str) -> dict[str, Any]:
    figure, measure = name.split("-")[2:]
    if figure == "reset":
        return _header(f"Time until all {measure} of a minute are free again, such as `1m30s`.")
    text = f"{measure.capitalize()} a minute: "
    return _header(text + ("allowed" if figure == "limit" else "left now"), "integer", minimum=0)


HEADERS: Mapping[str, Mapping[str, Any]] = {
    "x-request-id": _header("The request's id in the server's logs.", pattern="^req_"),
    "traceparent": _header(
        "The span of the request, of the caller's trace or of a new one; see W3C Trace Context.",
        pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    ),
    "x-headrace-ignored": _header(
        "Names of fields without effect, percent-encoded, separated by commas; after 32 `...`."
    ),
    "x-headrace-clamped": _header("Fields that were changed, with the values taken: `name=value`."),
    **{name: _limited(name) for name in LIMITED},
    "Retry-After": _header("Whole seconds after which to try again.", "integer", minimum=1),
    "retry-after-ms": _header("The same more exactly, in milliseconds.", "integer", minimum=0),
    "x-should-retry": _header("`false` where trying again would help nobody.", enum=["false"]),
    "WWW-Authenticate": _header("How to show a key.", enum=["Bearer"]),
    "ETag": _header("Changes with the document."),
}
"""Every header that answers may have beside HTTP's own."""


def header_references(names: Collection[str]) -> dict[str, Any]:
    """References to these headers, by name."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
