import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from headrace.models.pulling import pull_model
from headrace.models.receipt import find_faults, read_receipt
from headrace.models.refusal import UnservableError
from headrace.models.settings import ModelsSettings
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress
from tests.support.file_server import REVISION, FileServer, file_server
from tests.unit.headrace.models.model_folders import FILES

HUB_ID = "someone/Tiny-ov"
WEIGHTS = f"/{HUB_ID}/resolve/{REVISION}/openvino_model.bin"


@pytest.fixture
def hub() -> Iterator[FileServer]:
    with file_server() as server:
        server.add_repository(HUB_ID, FILES | {"README.md": b"", "openvino_tokenizer.xml": b""})
        yield server


def pull(hub: FileServer, cache: Path, model: str = HUB_ID, name: str | None = None) -> Path:
    settings = ModelsSettings(cache_dir=cache, hub_endpoint=f"{hub.address}/")
    return pull_model(model, settings, Progress(StringIO()), lambda *_: None, name)


def test_a_hub_id_brings_the_files_of_the_layout(hub: FileServer, tmp_path: Path) -> None:
    """Of a repository only the layout is fetched, all of one revision, which is recorded."""
    folder = pull(hub, tmp_path)

    assert folder == tmp_path / "Tiny-ov"
    assert {file.name for file in folder.iterdir()} == {*FILES, "headrace.json"}
    assert len(hub.requests) == 1 + len(FILES)
    assert find_faults(folder) == []
    receipt = read_receipt(folder)
    assert (receipt["source"], receipt["revision"]) == (HUB_ID, REVISION)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".Tiny-ov.lock", "Tiny-ov"]


def test_a_pulled_model_is_not_pulled_again(hub: FileServer, tmp_path: Path) -> None:
    """The second call asks nobody; under another name the model is fetched anew."""
    pull(hub, tmp_path)
    num_requests = len(hub.requests)
    assert pull(hub, tmp_path) == tmp_path / "Tiny-ov"
    assert len(hub.requests) == num_requests

    assert pull(hub, tmp_path, name="other") == tmp_path / "other"


def test_an_interrupted_pull_goes_on(hub: FileServer, tmp_path: Path) -> None:
    """Files that are there are not asked for again, a half one goes on where it ended."""
    hub.cuts[WEIGHTS] = 5
    with pytest.raises(StartError, match=r"openvino_model\.bin: cut 5 times"):
        pull(hub, tmp_path)
    assert not (tmp_path / "Tiny-ov").exists()
    hub.requests.clear()

    folder = pull(hub, tmp_path)
    assert (folder / "openvino_model.bin").read_bytes() == FILES["openvino_model.bin"]
    (weights,) = [wanted for path, wanted in hub.requests if path == WEIGHTS]
    assert weights is not None
    assert not any(path.endswith("openvino_model.xml") for path, _ in hub.requests)


def test_the_template_for_tools_is_fetched(hub: FileServer, tmp_path: Path) -> None:
    """Into a folder of its own, and the receipt knows it."""
    name = "additional_chat_templates/tool_use.jinja"
    hub.add_repository("a/tools", {**FILES, name: b"{{ tools }}"})
    folder = pull(hub, tmp_path, "a/tools")

    assert (folder / name).read_bytes() == b"{{ tools }}"
    assert find_faults(folder) == []


def test_files_of_two_revisions_are_never_mixed(hub: FileServer, tmp_path: Path) -> None:
    """When the repository has moved on, everything is fetched anew."""
    hub.cuts[WEIGHTS] = 5
    with pytest.raises(StartError, match="cut 5 times"):
        pull(hub, tmp_path)
    listing = json.loads(hub.files[f"/api/models/{HUB_ID}"]) | {"sha": "ffff"}
    hub.files[f"/api/models/{HUB_ID}"] = json.dumps(listing).encode()
    for name, content in FILES.items():
        hub.files[f"/{HUB_ID}/resolve/ffff/{name}"] = content
    hub.requests.clear()

    assert read_receipt(pull(hub, tmp_path))["revision"] == "ffff"
    assert len(hub.requests) == 1 + len(FILES)


def test_a_hash_that_the_hub_gives_is_held_to(hub: FileServer, tmp_path: Path) -> None:
    """Weights with another SHA-256 than the hub's are not taken."""
    hub.headers[WEIGHTS] = {"X-Linked-Etag": f'"{"0" * 64}"'}

    with pytest.raises(StartError, match=r"openvino_model\.bin gave a file of SHA-256"):
        pull(hub, tmp_path)
    assert not (tmp_path / "Tiny-ov").exists()


def test_a_repository_of_another_layout_is_refused(hub: FileServer, tmp_path: Path) -> None:
    """What is missing is named before anything is fetched; GGUF files are pointed to."""
    hub.add_repository("a/gguf", {"m.gguf": b"", "config.json": b"{}"})

    with pytest.raises(UnservableError, match=r"no openvino_model\.bin; it has GGUF files"):
        pull(hub, tmp_path, "a/gguf")
    assert len(hub.requests) == 1


def test_a_repository_that_is_not_there_is_told(hub: FileServer, tmp_path: Path) -> None:
    """The sentence names the address that was asked."""
    with pytest.raises(StartError, match="api/models/a/b answers 404 Not Found: it is not there"):
        pull(hub, tmp_path, "a/b")


@pytest.mark.parametrize("listing", [{}, [], {"sha": "../x", "siblings": []}])
def test_a_listing_of_another_form_is_told(
    hub: FileServer, tmp_path: Path, listing: object
) -> None:
    """A server that is no hub is one sentence."""
    hub.files["/api/models/a/b"] = json.dumps(listing).encode()

    with pytest.raises(StartError, match=r"of a/b|about a/b"):
        pull(hub, tmp_path, "a/b")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny", "no hub id"),
        ("../../x", "no hub id"),
        ("https://127.0.0.1/m.bin", r"does not end in \.gguf"),
        ("http://example.org/m.gguf", "only https:// addresses"),
    ],
)
def test_what_names_no_model_is_refused(
    hub: FileServer, tmp_path: Path, model: str, message: str
) -> None:
    """Nobody is asked about what cannot be a model."""
    with pytest.raises(StartError, match=message):
        pull(hub, tmp_path, model)
    assert hub.requests == []


def test_an_address_that_gives_no_gguf_is_refused(hub: FileServer, tmp_path: Path) -> None:
    """The file is looked at, not its name."""
    hub.files["/m.gguf"] = b"<html>"
    url = f"{hub.address}/m.gguf"

    with pytest.raises(UnservableError, match=f"{url} cannot be served: it is neither a GGUF"):
        pull(hub, tmp_path, url)
