import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.main import main
from headrace.cli.model_trial import try_model
from headrace.models.gguf_conversion import convert
from headrace.models.receipt import write_receipt
from headrace.models.refusal import UnservableError
from tests.support.file_server import FileServer, file_server
from tests.support.tiny_gguf import TinyGguf
from tests.support.tokenizer_models import train_tokenizer, write_model

ROOT = str(Path(__file__).parents[4])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ROOT)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_MODELS__CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with file_server() as server:
        monkeypatch.setenv("HEADRACE_MODELS__HUB_ENDPOINT", server.address)
        yield server


def make_model(folder: Path) -> Path:
    write_model(folder, train_tokenizer())
    write_receipt(folder, {})
    return folder


def fingerprint(folder: Path) -> str:
    recorded: str = json.loads((folder / "headrace.json").read_text())["tokenizer_fingerprint"]
    return recorded


@pytest.mark.parametrize("action", ["pull", "import", "list", "verify"])
def test_every_action_explains_itself(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of each has sentences of its own, and the general one names it."""
    for argv in (["model", "--help"], ["model", action, "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0
    general, own = capsys.readouterr().out.split("usage: headrace model " + action)
    assert f"\n  {action} " in general
    assert len(own) > 300


@pytest.mark.parametrize("argv", [["import"], ["fly"], ["pull", "a/b", "c/d"], ["list", "--nam"]])
def test_wrong_arguments_end_with_2(argv: list[str]) -> None:
    """Missing, unknown, superfluous and shortened ones."""
    with pytest.raises(SystemExit) as caught:
        main(["model", *argv])

    assert caught.value.code == 2


def test_the_list_has_a_line_for_each_model(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Context, vocabulary, size, engine files and fingerprint; without any model, nothing."""
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out == ""
    folder = make_model(cache / "m")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]

    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out == (
        f"m  256 tokens  {vocabulary} ids  {size:.1f} MB  no engine files  {fingerprint(folder)}\n"
    )


def test_the_list_marks_what_is_broken(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason stands beside the name, healthy models are listed all the same."""
    make_model(cache / "a")
    (cache / "b").mkdir()

    assert main(["model", "list"]) == 1
    healthy, broken = capsys.readouterr().out.splitlines()
    assert healthy.startswith("a  256 tokens")
    assert broken.startswith("b  broken: ")
    assert "config.json is missing" in broken


def test_verify_says_ok_or_what_differs(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a model, exit code 1 where one is broken; a name picks one."""
    make_model(cache / "a")
    config = make_model(cache / "b") / "config.json"
    assert main(["model", "verify"]) == 0
    assert capsys.readouterr().out == "a  ok\nb  ok\n"
    config.write_bytes(config.read_bytes().replace(b"256", b"257"))

    assert main(["model", "verify"]) == 1
    healthy, broken = capsys.readouterr().out.splitlines()
    assert healthy == "a  ok"
    assert broken.startswith("b  broken: config.json has SHA-256")
    assert main(["model", "verify", "a"]) == 0


def test_verify_of_an_unknown_name_is_a_sentence(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is not in the cache is refused."""
    assert main(["model", "verify", "absent"]) == 1
    assert "model absent is not in" in capsys.readouterr().err


def test_the_cache_folder_may_stand_anywhere(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--cache-dir counts before and after the action, and before the environment."""
    make_model(tmp_path / "other" / "m")
    flag = ["--cache-dir", str(tmp_path / "other")]

    for argv in (["verify", *flag], [*flag, "verify"]):
        assert main(["model", *argv]) == 0
        assert capsys.readouterr().out == "m  ok\n"


def test_a_gguf_is_imported_for_real(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Converted, tried out by the engine, listed and verified; stdout is the folder alone."""
    file = TinyGguf("qwen3", "qwen2").write(tmp_path / "Tiny-F16.gguf")
    assert main(["model", "import", str(file), "--name", "tiny"]) == 0
    assert capsys.readouterr().out == f"{cache / 'tiny'}\n"

    assert main(["model", "list"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("tiny  128 tokens  395 ids")
    assert "  openvino  " in line
    assert main(["model", "verify"]) == 0
    assert capsys.readouterr().out == "tiny  ok\n"


def test_a_gguf_that_cannot_be_served_says_why(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The child's reason is the sentence, with the file's path; nothing is in the cache."""
    changes = {"tokenizer.ggml.pre": "tekken"}
    file = TinyGguf(changes=changes).write(tmp_path / "m.gguf")

    assert main(["model", "import", str(file)]) == 1
    message = f"headrace: {file} cannot be served: tokenizer.ggml.pre is 'tekken', unknown"
    assert message in capsys.readouterr().err
    assert main(["model", "list"]) == 0


@pytest.mark.slow
def test_an_address_is_pulled_and_imported(
    cache: Path, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model has the file's name; its hash and its address are recorded."""
    file = TinyGguf().write(tmp_path / "x.gguf")
    server.files["/some/Tiny.gguf"] = file.read_bytes()
    server.cuts["/some/Tiny.gguf"] = 2

    assert main(["model", "pull", f"{server.address}/some/Tiny.gguf"]) == 0
    assert capsys.readouterr().out == f"{cache / 'Tiny'}\n"
    assert json.loads((cache / "Tiny/headrace.json").read_text())["source"] == (
        f"{server.address}/some/Tiny.gguf"
    )


def test_a_hub_id_is_pulled_and_tried(
    cache: Path, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repository whose graph is none is refused by the trial, with the engine's words."""
    folder = make_model(tmp_path / "m")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    files |= {"openvino_model.xml": b"<net/>", "openvino_model.bin": b""}
    server.add_repository("someone/Tiny", files)

    assert main(["model", "pull", "someone/Tiny"]) == 1
    assert "someone/Tiny cannot be served: OpenVINO cannot run" in capsys.readouterr().err
    assert not (cache / "Tiny").exists()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", ('"vocab_size": 395', '"vocab_size": 300'), "the tokenizer has ids up to"),
        ("config.json", ('"vocab_size": 395', '"vocab_size": 400'), "the model gives 395 logits"),
        ("tokenizer_config.json", ("{% endfor %}", ""), "template"),
        ("tokenizer.json", ('"type": "ByteLevel"', '"type": "Other"'), "tokenizer"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, name: str, change: tuple[str, str], message: str
) -> None:
    """The trial loads what the services load: vocabulary, template and tokenizer have to fit."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    convert(TinyGguf().write(tmp_path / "tiny.gguf"), folder)
    try_model(folder)
    text = (folder / name).read_text()
    assert change[0] in text
    (folder / name).write_text(text.replace(*change))

    with pytest.raises(UnservableError, match=message):
        try_model(folder)
