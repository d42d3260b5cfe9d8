"""Keys in force: found by hash, read again when their file changes."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.access.key_ring import KeyRing, open_key_ring, watched
from headrace.access.keys import hash_key
from headrace.access.settings import KeysSettings
from headrace.runtime.errors import StartError
from tests.support.edge_server import wait_until
from tests.support.keys import entry, write_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one key."""
    return write_keys(tmp_path / "keys.toml", entry("one", more="requests_per_minute = 2"))


def test_a_key_is_found_whole_or_not_at_all(file: Path) -> None:
    """Neither a part of a key nor its hash is a key."""
    keys = KeyRing(file)
    holder = keys.find("one")

    assert holder is not None
    assert holder.caller.tenant == "acme"
    for wrong in ("", "on", "One", "one ", hash_key("one"), "\udcff"):
        assert keys.find(wrong) is None


async def test_another_reading_adds_removes_and_remembers(file: Path) -> None:
    """A removed key is unknown at once; a key that stays has used what it has used."""
    keys = KeyRing(file, clock=lambda: 0.0)
    before = keys.find("one")
    assert before is not None
    before.allowance.enter(0.0)
    write_keys(file, entry("one", more="requests_per_minute = 5") + entry("two"))
    await keys.reload()
    after = keys.find("one")
    assert after is not None

    quota = after.allowance.quota("requests", 0.0)
    assert quota is not None
    assert (quota.limit, quota.remaining) == (5, 4)
    assert keys.find("two") is not None
    write_keys(file, entry("two"))
    await keys.reload()
    assert keys.find("one") is None
    assert len(keys) == 1


async def test_a_broken_file_keeps_the_keys_and_is_named_once(file: Path) -> None:
    """The log says what is wrong, without a value; a good file is taken again."""
    keys = KeyRing(file)
    write_keys(file, '[[keys]]\nsha256 = "the-secret-itself"\n')
    with capture_logs() as logs:
        await keys.reload()
        await keys.reload()
    write_keys(file, entry("two"))
    await keys.reload()

    (refused,) = [line for line in logs if line["event"] == "key_file_refused"]
    assert "entry 1 (line 1)" in refused["problem"]
    assert "the-secret-itself" not in repr(logs)
    assert keys.find("one") is None
    assert keys.find("two") is not None


async def test_the_keys_follow_their_file(file: Path) -> None:
    """Within the context changes are taken; it ends the watching."""
    settings = KeysSettings(file=file, check_seconds=0.001)
    keys = open_key_ring(settings)
    assert keys is not None
    num_tasks = len(asyncio.all_tasks())
    async with watched(keys, settings):
        write_keys(file, entry("two"))
        await wait_until(lambda: keys.find("two") is not None)

    assert keys.find("one") is None
    assert len(asyncio.all_tasks()) == num_tasks


async def test_a_file_is_read_when_it_changes_no_more(file: Path) -> None:
    """What is half written may be a good file with other rights: it waits for a quiet look."""
    whole = entry("two", more="concurrent_requests = 1") + entry("one")
    keys = KeyRing(file)
    write_keys(file, whole[: whole.index("concurrent")])
    await keys.look()
    seen = [keys.find("two")]
    write_keys(file, whole)
    await keys.look()
    seen.append(keys.find("two"))
    await keys.look()

    assert seen == [None, None]
    holder = keys.find("two")
    assert holder is not None
    assert holder.caller.limits.concurrent_requests == 1
    assert keys.find("one") is not None


async def test_without_a_file_there_are_no_keys() -> None:
    """Then everybody may do everything."""
    assert open_key_ring(KeysSettings()) is None
    async with watched(None, KeysSettings()):
        pass


async def test_a_key_may_only_name_a_profile_that_there_is(file: Path) -> None:
    """At the start it is refused, later the old keys stay; who has no profiles does not look."""
    write_keys(file, entry("one", more='profile = "premai"') + entry("two"))
    keys = KeyRing(file, profiles={"premai"})
    write_keys(file, entry("three", more='profile = "other"'))
    await keys.reload()

    assert keys.find("one") is not None
    with pytest.raises(StartError, match=f"key {hash_key('three')[:12]}: there is no profile"):
        KeyRing(file, profiles={"premai"})
    assert KeyRing(file).find("three") is not None
