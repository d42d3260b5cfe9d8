import json
from pathlib import Path

import pytest

from headrace.models.cache import list_models, resolve_model
from headrace.models.default import DEFAULT_MODEL
from headrace.models.receipt import write_receipt
from headrace.runtime.errors import StartError


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    config = {"max_position_embeddings": 8, "vocab_size": 4, "eos_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_name_is_looked_up_in_the_cache_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the same name in the current directory is not taken for the cached model."""
    cached = make_model(tmp_path / "cache" / "m")
    make_model(tmp_path / "here" / "m")
    monkeypatch.chdir(tmp_path / "here")

    assert resolve_model("m", tmp_path / "cache") == cached
    assert resolve_model("./m", tmp_path / "cache") == tmp_path / "here" / "m"


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    """What contains a slash is a path, and its absence is said as such."""
    with pytest.raises(StartError, match="absent does not exist"):
        resolve_model(str(tmp_path / "absent"), tmp_path)


def test_a_missing_default_model_tells_the_command(tmp_path: Path) -> None:
    """The default model is not fetched behind the operator's back: the sentence says how."""
    with pytest.raises(StartError, match="run `headrace model pull`"):
        resolve_model(DEFAULT_MODEL.name, tmp_path)


def test_an_unknown_name_is_named(tmp_path: Path) -> None:
    """A name that is not in the cache is refused with the cache's path."""
    with pytest.raises(StartError, match=f"model other is not in {tmp_path}"):
        resolve_model("other", tmp_path)


def test_lists_models_in_order_and_says_what_is_broken(tmp_path: Path) -> None:
    """Folders in preparation are hidden; a broken folder is reported, not skipped."""
    make_model(tmp_path / "b")
    make_model(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / ".d.partial").mkdir()

    first, second, third = list_models(tmp_path)

    assert [entry.path.name for entry in (first, second, third)] == ["a", "b", "c"]
    assert first.model is not None
    assert first.model.name == "a"
    assert not first.fault
    assert third.model is None
    assert "config.json is missing" in third.fault


def test_lists_size_and_engine_files(tmp_path: Path) -> None:
    """The size counts every file; the openvino engine needs both of its files."""
    folder = make_model(tmp_path / "a")
    (folder / "openvino_model.xml").write_text("12345")
    (entry,) = list_models(tmp_path)
    assert entry.engine_files == ()

    (folder / "openvino_model.bin").write_text("")
    (entry,) = list_models(tmp_path)
    assert entry.engine_files == ("openvino",)
    assert entry.size_bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_a_file_of_another_size_is_broken(tmp_path: Path) -> None:
    """What the receipt recorded is compared by size, which costs nothing."""
    folder = make_model(tmp_path / "a")
    write_receipt(folder, {})
    (folder / "tokenizer.json").write_text("{ }")

    (entry,) = list_models(tmp_path)
    assert entry.fault == "tokenizer.json has 3 bytes, recorded are 2"
    assert entry.model is None


def test_an_absent_cache_holds_nothing(tmp_path: Path) -> None:
    """Before the first pull there is no cache folder, which is no error."""
    assert list_models(tmp_path / "absent") == []
