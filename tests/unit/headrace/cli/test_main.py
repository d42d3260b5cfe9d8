import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli.main import main


def test_help_shows_commands_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names every command and shows lines to copy."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(
        f"\n  {name} " in text
        for name in ("serve", "edge", "tokenizer", "worker", "model", "key", "render", "doctor")
    )
    assert "headrace serve --workers 2" in text


def test_version_names_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the name and version."""
    with pytest.raises(SystemExit):
        main(["--version"])

    assert capsys.readouterr().out.startswith("headrace")


@pytest.mark.parametrize("argv", [[], ["fly"], ["model", "fly"], ["serve", "--prot", "1"]])
def test_wrong_arguments_end_with_2(argv: list[str]) -> None:
    """What does not exist is not guessed at, nor shortened."""
    with pytest.raises(SystemExit) as caught:
        main(argv)

    assert caught.value.code == 2


@pytest.mark.parametrize("service", ["edge", "tokenizer", "worker"])
def test_each_service_shows_its_effective_settings(
    service: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--print-config shows the table as TOML and starts nothing."""
    monkeypatch.setenv("HEADRACE_WORKER__PORT", "7")
    monkeypatch.setenv("HEADRACE_TOKENIZER__PORT", "7")
    monkeypatch.setenv("HEADRACE_EDGE__SERVER__PORT", "7")

    assert main([service, "--print-config"]) == 0
    assert "\nport = 7\n" in capsys.readouterr().out


def test_an_unknown_setting_is_one_sentence_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt key of another service's table stops this one."""
    (tmp_path / "x.toml").write_text("[worker]\nprot = 1\n")

    assert main(["edge", "--config", str(tmp_path / "x.toml")]) == 1
    assert capsys.readouterr().err.endswith("unknown key worker.prot; did you mean port?\n")


def test_a_missing_model_is_one_sentence_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`headrace serve` names the model that it cannot find, before it starts anything."""
    monkeypatch.setenv("HEADRACE_MODELS__CACHE_DIR", str(tmp_path))
    ports = ["--port", "0", "--tokenizer-port", "0", "--worker-port", "0"]

    assert main(["serve", "--model", "absent", *ports]) == 1
    assert capsys.readouterr().err.startswith(f"headrace: model absent is not in {tmp_path}")


def test_the_command_loads_no_service_by_itself() -> None:
    """Importing the command imports neither services nor gRPC nor an engine."""
    program = "import sys, headrace.cli.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()

    heavy = {"edge", "worker", "tokenizer_svc", "aiohttp", "grpc", "openvino", "numpy"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    ("argv", "library", "extra"),
    [
        (["tokenizer"], "jinja2", "tokenizer"),
        pytest.param(["edge"], "aiohttp", "edge", marks=pytest.mark.slow),
        pytest.param(["render", "x"], "orjson", "serve", marks=pytest.mark.slow),
    ],
)
def test_a_library_that_is_not_installed_is_one_sentence(
    argv: list[str], library: str, extra: str
) -> None:
    """An installation without a service's extra says which one its command needs."""
    program = (
        f"import sys; sys.modules[{library!r}] = None;"
        f"from headrace.cli.main import main; sys.exit(main({argv!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"headrace: `headrace {argv[0]}` needs {library}, which is not installed: "
        f"install headrace[{extra}]\n"
    )


def test_a_module_of_ours_that_is_missing_is_no_lack_of_an_extra() -> None:
    """A broken installation shows its traceback."""
    program = (
        "import sys; sys.modules['edge.main'] = None;"
        "from headrace.cli.main import main; sys.exit(main(['edge']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr
    assert "install headrace[" not in done.stderr
