"""Keys over HTTP: who is let in, what is said to whom is not, and that no key is ever logged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.access.keys import hash_key
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawResponse,
    ask,
    raw_client,
    request_head,
    running_edge,
    wait_until,
)
from tests.support.fake_backend import MODEL, FakeBackend
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys

UNKNOWN_KEY = "sk-abcdefghijklmnopqrstuvwxyz0123456789yz"
BEARER = {"Authorization": f"Bearer {KEY}"}
Keys = Callable[..., dict[str, Any]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """The settings group of a key file with these entries."""
    return lambda *entries: {"file": write_keys(tmp_path / "keys.toml", *entries)}


async def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> RawResponse:
    """One GET on a connection of its own."""
    async with raw_client(port) as client:
        client.get(path, headers=headers)
        return await client.response()


def assert_missing(response: RawResponse) -> None:
    """E7: no key."""
    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-should-retry"] == "false"
    error = response.error
    assert error["message"].startswith(
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)"
    )
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


@pytest.mark.wire("E7.no_key")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/ps/paced-1.0"),
        ("GET", "/api/v1/models"),
        ("POST", "/chat/completions"),
        ("GET", "/nowhere"),
        ("GET", "/health/"),
    ],
)
@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Basic abc", KEY])
async def test_without_a_key_nothing_is_told(
    keys: Keys, method: str, path: str, value: str | None
) -> None:
    """E7, E17: 401 on every path and method; another scheme is no key."""
    headers = {} if value is None else {"Authorization": value}
    async with (
        running_edge(FakeBackend(), keys=keys(entry(KEY))) as server,
        raw_client(server.port) as client,
    ):
        client.send(request_head(method, path, "1.1", {"Content-Length": 0, **headers}))
        assert_missing(await client.response())


async def test_two_keys_are_none(keys: Keys) -> None:
    """Somebody in between may have looked at the other one."""
    async with (
        running_edge(FakeBackend(), keys=keys(entry(KEY), entry(OTHER_KEY))) as server,
        raw_client(server.port) as client,
    ):
        line = f"Authorization: Bearer {KEY}\r\n"
        head = request_head("GET", "/v1/models", "1.1", {"Accept": "*/*"})
        client.send(head.replace(b"Accept", line.encode() * 2 + b"Accept"))
        assert_missing(await client.response())


@pytest.mark.wire("E7.bad_key")
async def test_a_wrong_key_is_shown_masked(keys: Keys) -> None:
    """E7: the sender sees its ends, and the code invalid_api_key."""
    headers = {"Authorization": f"Bearer {UNKNOWN_KEY}"}
    async with running_edge(FakeBackend(), keys=keys(entry(KEY))) as server:
        response = await ask(server.port, HELLO, headers=headers)

    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.error["code"] == "invalid_api_key"
    assert response.error["message"] == (
        "Incorrect API key provided: sk-ab***yz. "
        "You can find your API key with the operator of this server."
    )


async def test_a_key_of_no_character_is_refused_like_any_other(keys: Keys) -> None:
    """Bytes that are no UTF-8 are a wrong key, not a failure of ours; nothing of them is logged."""
    authorization = b"\r\nAuthorization: Bearer \xff\xfeabcdefghijklmnop\xed\xa0\x80\r\n"
    async with running_edge(FakeBackend(), keys=keys(entry(KEY))) as server:
        with capture_logs() as lines:
            async with raw_client(server.port) as client:
                head = request_head("GET", "/v1/models", "1.1", {})
                client.send(head.replace(b"\r\n", authorization, 1))
                response = await client.response()

    assert response.status == 401
    assert response.error["message"].startswith("Incorrect API key provided: ??abc***??. ")
    assert "abcdefghijklmnop" not in str(lines)


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_need_no_key(keys: Keys, path: str) -> None:
    """A kubelet has none."""
    async with running_edge(FakeBackend(), keys=keys(entry(KEY))) as server:
        assert (await get(server.port, path)).status == 200


async def test_a_known_key_is_answered_in_its_tenants_name(keys: Keys) -> None:
    """Salt and priority of what is generated are the key's."""
    honoured = MODEL.honoured_fields | {"priority"}
    backend = FakeBackend(models=(replace(MODEL, honoured_fields=honoured),))
    settings = keys(entry(KEY, "acme", "priority = 5"), entry(OTHER_KEY, "globex"))
    async with running_edge(backend, keys=settings) as server:
        first = await ask(server.port, HELLO, headers=BEARER)
        second = await ask(server.port, HELLO, headers={"Authorization": f"bearer {OTHER_KEY}"})

    assert (first.status, second.status) == (200, 200)
    options = [generation.options for generation in backend.generations]
    assert [option.cache_salt for option in options] == ["tenant:acme", "tenant:globex"]
    assert [option.priority for option in options] == [5, 0]


async def test_without_a_key_file_everybody_is_let_in() -> None:
    """Whatever key they show; their cache is the common one."""
    backend = FakeBackend()
    async with running_edge(backend) as server:
        response = await ask(server.port, HELLO, headers=BEARER)

    assert response.status == 200
    assert backend.generations[0].options.cache_salt == ""


@pytest.mark.wire("E7.forbidden_model", "E7.unknown_model")
async def test_a_model_that_the_key_does_not_admit_is_unknown(keys: Keys) -> None:
    """E7: 404 as for a model that there is not, word for word; the list leaves it out."""
    backend = FakeBackend(models=(MODEL, replace(MODEL, name="secret")))
    settings = keys(entry(KEY, more=f'models = ["{MODEL.name}"]'))
    async with running_edge(backend, keys=settings) as server:
        listed = (await get(server.port, "/v1/models", BEARER)).json()["data"]
        hidden = await ask(server.port, {**HELLO, "model": "secret"}, headers=BEARER)
        absent = await ask(server.port, {**HELLO, "model": "absent"}, headers=BEARER)
        shown = await get(server.port, "/v1/models/secret", BEARER)
        admitted = await ask(server.port, HELLO, headers=BEARER)

    assert [model["id"] for model in listed] == [MODEL.name]
    assert admitted.status == 200
    assert hidden.status == absent.status == shown.status == 404
    assert hidden.error["code"] == "model_not_found"
    assert hidden.error["message"] == absent.error["message"].replace("absent", "secret")


async def test_a_body_is_not_asked_for_without_a_key(keys: Keys) -> None:
    """Expect: 100-continue is answered by 401, and nothing is uploaded."""
    async with (
        running_edge(FakeBackend(), keys=keys(entry(KEY))) as server,
        raw_client(server.port) as client,
    ):
        head = {"Content-Length": 100, "Expect": "100-continue"}
        client.send(request_head("POST", CHAT, "1.1", head))
        assert_missing(await client.response())


async def test_a_key_that_is_removed_is_refused_and_a_new_one_let_in(
    keys: Keys, tmp_path: Path
) -> None:
    """The file is read again while the server runs."""
    settings = {**keys(entry(KEY)), "check_seconds": 0.01}
    async with running_edge(FakeBackend(), keys=settings) as server:
        assert (await get(server.port, "/v1/models", BEARER)).status == 200
        write_keys(tmp_path / "keys.toml", entry(OTHER_KEY))
        other = {"Authorization": f"Bearer {OTHER_KEY}"}
        while (await get(server.port, "/v1/models", other)).status != 200:
            pass

        assert (await get(server.port, "/v1/models", BEARER)).status == 401


async def test_an_edge_does_not_start_with_a_key_file_at_fault(keys: Keys) -> None:
    """Nor with one that names a profile which there is not."""
    for more in ("requests_per_minute = 0", 'profile = "none-such"'):
        with pytest.raises(StartError, match="key file"):
            async with running_edge(FakeBackend(), keys=keys(entry(KEY, more=more))):
                pass


async def test_a_service_that_does_not_know_the_edges_key_is_no_fault_of_the_client(
    keys: Keys,
) -> None:
    """The client's key was right: it is told that nobody can serve it now."""
    refused = ServiceError(errors_pb2.ERROR_REASON_INVALID_API_KEY, "Incorrect API key provided.")
    async with running_edge(FakeBackend(render_error=refused), keys=keys(entry(KEY))) as server:
        response = await ask(server.port, HELLO, headers=BEARER)

    assert response.status == 503
    assert "key" in response.error["message"]


async def test_no_key_is_logged_or_answered(keys: Keys, tmp_path: Path) -> None:
    """Neither a right one nor a wrong one, in no log line and no answer, also of a broken file."""
    secrets = (KEY, OTHER_KEY, UNKNOWN_KEY)
    answers: list[RawResponse] = []
    settings = {**keys(entry(KEY, more="requests_per_minute = 1")), "check_seconds": 0.01}
    with capture_logs() as logs:
        async with running_edge(FakeBackend(), keys=settings) as server:
            for key in (KEY, KEY, UNKNOWN_KEY, f"{KEY} {OTHER_KEY}"):
                headers = {"Authorization": f"Bearer {key}", "traceparent": key}
                answers.append(await ask(server.port, {**HELLO, "user": "u"}, headers=headers))
                answers.append(await get(server.port, "/v1/models", headers))
            write_keys(tmp_path / "keys.toml", f'[[keys]]\nsha256 = "{OTHER_KEY}"\n')
            await wait_until(lambda: any(line["event"] == "key_file_refused" for line in logs))
        wanted = [line for line in logs if line["event"] == "request_served"]

    assert [answer.status for answer in answers] == [200, 200, 429, 200, 401, 401, 401, 401]
    assert wanted[0]["key_id"] == hash_key(KEY)[:12]
    assert wanted[0]["tenant"] == "acme"
    seen = repr(logs) + repr(answers)
    assert not any(secret in seen for secret in secrets)
