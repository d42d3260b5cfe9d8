from io import StringIO
from pathlib import Path

import pytest

from headrace.models.default import DEFAULT_MODEL
from headrace.models.importing import import_model
from headrace.models.receipt import find_faults, read_receipt
from headrace.models.refusal import UnservableError
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress
from tests.unit.headrace.models.model_folders import FILES, write_folder

TOOL_TEMPLATE = "additional_chat_templates/tool_use.jinja"


class Trial:
    """Stands for the services: takes everything, or refuses or fails as it is told."""

    def __init__(self, error: StartError | None = None) -> None:
        self.error = error
        self.tried: list[set[str]] = []

    def __call__(self, folder: Path, _progress: Progress) -> None:
        self.tried.append({file.name for file in folder.iterdir()})
        if self.error is not None:
            raise self.error


def take(source: Path, cache: Path, trial: Trial | None = None, name: str | None = None) -> Path:
    return import_model(source, cache, Progress(StringIO()), trial or Trial(), name)


def test_a_directory_is_copied_tried_out_and_recorded(tmp_path: Path) -> None:
    """Files of the layout are taken, others are not; the receipt fits and names the source."""
    source = write_folder(tmp_path / "model.v1")
    (source / "openvino_detokenizer.xml").write_text("")
    trial = Trial()

    folder = take(source, tmp_path / "cache", trial)

    assert folder == tmp_path / "cache" / "model.v1"
    assert trial.tried == [set(FILES)]
    assert {file.name for file in folder.iterdir()} == {*FILES, "headrace.json"}
    assert find_faults(folder) == []
    assert read_receipt(folder)["source"] == str(source)


def test_the_template_for_tools_is_taken(tmp_path: Path) -> None:
    """It stands in a folder of its own, and the receipt knows it."""
    source = write_folder(tmp_path / "m")
    (source / "additional_chat_templates").mkdir()
    (source / TOOL_TEMPLATE).write_text("{{ tools }}")

    folder = take(source, tmp_path / "cache")

    assert (folder / TOOL_TEMPLATE).read_text() == "{{ tools }}"
    assert find_faults(folder) == []
    assert TOOL_TEMPLATE in read_receipt(folder)["files"]


def test_nothing_but_the_model_stays(tmp_path: Path) -> None:
    """The working folder is gone after a success."""
    take(write_folder(tmp_path / "m"), tmp_path / "cache")

    assert sorted(item.name for item in (tmp_path / "cache").iterdir()) == [".m.lock", "m"]


def test_a_refused_model_leaves_nothing(tmp_path: Path) -> None:
    """The trial's refusal is told with the source; the cache does not show the model."""
    source = write_folder(tmp_path / "m")
    with pytest.raises(UnservableError, match=f"{source} cannot be served: no such layer"):
        take(source, tmp_path / "cache", Trial(UnservableError("no such layer")))

    assert [item.name for item in (tmp_path / "cache").iterdir()] == [".m.lock"]


def test_a_failed_trial_is_no_refusal(tmp_path: Path) -> None:
    """What fails for another reason is told as it is, and the model is not in the cache."""
    failure = StartError("the trial failed: install headrace[openvino]")
    with pytest.raises(StartError, match=r"^the trial failed"):
        take(write_folder(tmp_path / "m"), tmp_path / "cache", Trial(failure))

    assert not (tmp_path / "cache" / "m").exists()
    assert take(write_folder(tmp_path / "n"), tmp_path / "cache", name="m").is_dir()


def test_what_the_configuration_tells_needs_no_trial(tmp_path: Path) -> None:
    """An architecture that is known not to go is refused before anything is copied."""
    trial = Trial()
    with pytest.raises(UnservableError, match="sliding-window"):
        take(write_folder(tmp_path / "m", sliding_window=2), tmp_path / "cache", trial)

    assert trial.tried == []


def test_a_taken_name_is_refused_and_another_can_be_given(tmp_path: Path) -> None:
    """A model in the cache is never overwritten."""
    source = write_folder(tmp_path / "m")
    take(source, tmp_path / "cache")
    with pytest.raises(StartError, match="is there already"):
        take(source, tmp_path / "cache")

    assert take(source, tmp_path / "cache", name="n").name == "n"


@pytest.mark.parametrize("name", ["../m", ".m", "a b", "a/b"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """Names are plain: they become folders, and what a client says for the model."""
    with pytest.raises(StartError, match="cannot be a model's name"):
        take(write_folder(tmp_path / "m"), tmp_path / "cache", name=name)


def test_the_default_models_name_is_kept_for_it(tmp_path: Path) -> None:
    """Else the default model's preparation would replace what was imported."""
    with pytest.raises(StartError, match="is the default model's name"):
        take(write_folder(tmp_path / "m"), tmp_path / "cache", name=DEFAULT_MODEL.name)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """Another file, an empty folder and an absent path are told apart."""
    (tmp_path / "file.txt").write_text("GGU")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnservableError, match="neither a GGUF file nor a directory"):
        take(tmp_path / "file.txt", tmp_path / "cache")
    with pytest.raises(UnservableError, match=r"config\.json is missing"):
        take(tmp_path / "empty", tmp_path / "cache")
    with pytest.raises(StartError, match="absent does not exist"):
        take(tmp_path / "absent", tmp_path / "cache")
