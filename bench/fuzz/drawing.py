"""Draw requests from an OpenAPI document: a batch is made of a seed and its number alone."""

import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from requests import PreparedRequest, Request
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Err

from bench.fuzz.excerpts import Document, excerpt, operations
from bench.fuzz.mangling import encoded, mangled_body, random_bytes, random_target
from bench.fuzz.request import FuzzRequest, Kind

BATCH = 40
_BASE = "http://edge"
_CHAT_SHARE = 0.88
_KINDS: tuple[tuple[Kind, float], ...] = (
    ("positive", 0.42),
    ("negative", 0.38),
    ("bytes", 0.15),
    ("path", 0.05),
)
_KEPT_HEADERS = frozenset(("content-type",))


def draw_batch(document: Document, run_seed: int, batch: int) -> list[FuzzRequest]:
    """The requests of one batch, `BATCH` of them or fewer where a schema admits no more."""
    chance = random.Random(f"{run_seed}:{batch}")
    kind = chance.choices([kind for kind, _ in _KINDS], [share for _, share in _KINDS])[0]
    if kind == "path":
        return [_path_request(f"{batch}.{index}", chance) for index in range(BATCH)]
    path, method = _operation(document, kind, chance)
    part = excerpt(document, path, method, chance)
    mode = GenerationMode.NEGATIVE if kind == "negative" else GenerationMode.POSITIVE
    try:
        cases = _cases(part, mode, chance.randrange(2**32))
    except Unsatisfiable:
        # Nothing can be wrong with an operation that takes nothing.
        kind, cases = "positive", _cases(part, GenerationMode.POSITIVE, chance.randrange(2**32))
    requests = _requests(cases, kind, f"{batch}")
    return [_mangled(request, chance) for request in requests] if kind == "bytes" else [*requests]


def _operation(document: Document, kind: Kind, chance: random.Random) -> tuple[str, str]:
    every = operations(document)
    chats = [each for each in every if each[1] == "post"]
    others = [each for each in every if each[1] != "post"]
    is_chat = kind == "bytes" or chance.random() < _CHAT_SHARE
    return chance.choice(chats if is_chat else others)


def _cases(part: Document, mode: GenerationMode, case_seed: int) -> list[Case[Any]]:
    schema = schemathesis.openapi.from_dict(part)
    first = next(iter(schema.get_all_operations()))
    if isinstance(first, Err):
        raise first.err()
    operation = first.ok()
    found: list[Case[Any]] = []

    @seed(case_seed)
    @settings(
        max_examples=BATCH,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Case[Any]) -> None:
        found.append(case)

    run: Callable[[], None] = collect
    run()
    return found


def _requests(cases: list[Case[Any]], kind: Kind, batch: str) -> Iterator[FuzzRequest]:
    for index, case in enumerate(cases):
        arguments = case.as_transport_kwargs(_BASE)
        names = ("method", "url", "headers", "params", "json", "data")
        wanted = {name: arguments[name] for name in names if name in arguments}
        prepared = Request(**wanted).prepare()
        url = urlsplit(prepared.url or _BASE)
        yield FuzzRequest(
            case=f"{batch}.{index}",
            kind=kind,
            template=case.path,
            method=prepared.method or "GET",
            target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
            headers=tuple(
                (name, value.decode("latin-1") if isinstance(value, bytes) else value)
                for name, value in prepared.headers.items()
                if name.lower() in _KEPT_HEADERS
            ),
            body=_body(prepared),
        )


def _body(request: PreparedRequest) -> bytes | None:
    """The body's bytes; nothing that is drawn here is read from a stream."""
    body = request.body
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    raise TypeError(f"a body came as {type(body).__name__}")


def _mangled(request: FuzzRequest, chance: random.Random) -> FuzzRequest:
    plain = request.body or b""
    body = random_bytes(chance) if chance.random() < 0.1 else mangled_body(plain, chance)
    body, headers = encoded(body, chance)
    return FuzzRequest(
        request.case, "bytes", request.template, "POST", request.target, headers, body
    )


def _path_request(case: str, chance: random.Random) -> FuzzRequest:
    method, target = random_target(chance)
    body = random_bytes(chance) if method not in ("GET", "HEAD") else None
    return FuzzRequest(case, "path", "", method, target, (), body)
