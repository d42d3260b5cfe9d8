"""`headrace doctor`: what it prints, what it returns, and that it ends."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.doctor import judge_honoured, main
from headrace.cli.main import main as command
from headrace.doctor.host import Places
from tests.support.gpu_machine import H100, GpuMachine, checkpoint
from tests.support.lora_adapters import write_adapter
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings
from worker.request_mapping import OPTIONAL_FIELDS

_BUILD = {"keywords": ["inputs", "sampling_params", "streaming", "cache_salt"]}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuMachine:
    """Without anything."""
    made = GpuMachine(tmp_path)
    made.install(monkeypatch)
    return made


def _run(tmp_path: Path, *argv: str) -> int:
    # The machine of the test may have little shared memory.
    return main(list(argv), Places(shared_memory=tmp_path))


def test_without_a_gpu_it_says_so_first(
    machine: GpuMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    """One plain sentence; the rest is told all the same, and the exit code is 1."""
    assert command(["doctor"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "no NVIDIA GPU found: nvidia-smi is not on the PATH"
    assert any(line.startswith("FAIL  torch ") for line in lines)
    assert any(line.startswith(("ok    host memory", "warn  host memory")) for line in lines)
    assert any(line.startswith("skip  smoke test") for line in lines)
    assert lines[-1].startswith(("5 failures", "6 failures"))


def test_json_is_one_object(machine: GpuMachine, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same findings, for programs."""
    assert command(["doctor", "--json"]) == 1

    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["has_gpu"]) == (False, False)
    assert document["findings"][0]["name"] == "gpus"
    assert all(f["remedy"] for f in document["findings"] if f["verdict"] == "fail")
    assert set(document["findings"][0]) == {"name", "verdict", "text", "remedy"}


def test_a_machine_that_has_all_answers_a_request(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The engine loads the model and generates; the exit code is 0."""
    machine.complete(monkeypatch)
    log = tmp_path / "log"

    code = _run(tmp_path, "--model", str(checkpoint(tmp_path / "m")), "--log", str(log))

    output = capsys.readouterr().out
    (line,) = [line for line in output.splitlines() if "smoke test" in line]
    assert line.startswith("ok    smoke test     loaded in "), output
    assert " s, first token after " in line
    assert '"The three largest rivers of the world are' in line
    assert "no NVIDIA GPU" not in output
    assert "no failures, " in output
    assert code == 0
    assert "model_loaded" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("switches", "problem"),
    [
        pytest.param(
            {"construction_error": "CUDA out of memory"},
            "CUDA out of memory",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"faults": [{"kind": "request", "message": "no KV cache", "request": 1}]},
            "no KV cache",
            marks=pytest.mark.slow,
        ),
        (
            {"faults": [{"kind": "fatal", "message": "Xid 79", "request": 1}]},
            "has failed: CppExecutorError: Xid 79",
        ),
    ],
)
def test_an_engine_that_fails_is_a_failure(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    switches: dict[str, Any],
    problem: str,
) -> None:
    """While it loads, at the request, or for good: its sentence is told."""
    machine.complete(monkeypatch)
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", json.dumps({"gpus": 2, **switches}))

    code = _run(tmp_path, "--model", str(checkpoint(tmp_path / "m")))

    (line,) = [line for line in capsys.readouterr().out.splitlines() if "smoke test" in line]
    assert code == 1
    assert line.startswith("FAIL  smoke test")
    assert problem in line


def test_an_engine_that_never_loads_is_given_up(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The deadline is the flag's."""
    machine.complete(monkeypatch)
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", json.dumps({"gpus": 2, "construction_held": True}))
    model = str(checkpoint(tmp_path / "m"))

    assert _run(tmp_path, "--model", model, "--smoke-seconds", "1") == 1
    assert "the engine's process gave no answer within 1 s" in capsys.readouterr().out


def test_a_log_that_cannot_be_kept_is_a_failure(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its file is named."""
    machine.complete(monkeypatch)
    model = str(checkpoint(tmp_path / "m"))

    assert _run(tmp_path, "--model", model, "--log", str(tmp_path / "no" / "log")) == 1
    assert f"{tmp_path / 'no' / 'log'}: No such file or directory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (
            "tensor_parallel = 4",
            ["FAIL  torch", "the settings need 4", "skip  smoke test     something that it needs"],
        ),
        pytest.param(
            "tensor_parallel = 4\ngpus_per_node = 2",
            ["ok    torch", "skip  smoke test     the settings span several machines"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'sampler = "TRTLLMSampler"',
            ["warn  refuses        guide.structural_tag\n", "ok    smoke test"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_settings_of_the_file_count(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: str,
    lines: list[str],
) -> None:
    """How many GPUs are needed here, and what is honoured."""
    machine.complete(monkeypatch)
    config = tmp_path / "headrace.toml"
    config.write_text(f"[worker.tensorrt_llm]\n{table}\n", encoding="utf-8")

    _run(tmp_path, "--config", str(config), "--model", str(checkpoint(tmp_path / "m")))

    output = capsys.readouterr().out
    assert [line for line in lines if line not in output] == []


def test_adapters_are_looked_at_before_anything_is_loaded(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that cannot be served fails with its bound, and no model is loaded then."""
    machine.complete(monkeypatch)
    adapter = write_adapter(tmp_path / "sql", rank=16)
    config = tmp_path / "headrace.toml"
    table = f"[worker.tensorrt_llm]\nlora_adapters.sql.path = '{adapter}'\n"
    flags = ("--config", str(config), "--model", str(checkpoint(tmp_path / "m")))
    outputs = []
    for bound in (16, 8):
        config.write_text(f"{table}lora.max_rank = {bound}\n", encoding="utf-8")
        code = _run(tmp_path, *flags)
        outputs.append((code, capsys.readouterr().out))

    (good, can), (bad, cannot) = outputs
    assert "ok    adapters       sql\n" in can
    assert "ok    smoke test" in can
    assert "FAIL  adapters       lora_adapters: `sql` has rank 16; lora.max_rank is 8\n" in cannot
    assert "skip  smoke test" in cannot
    assert (good, bad) == (0, 1)


def test_every_optional_field_is_honoured_or_refused() -> None:
    """None is left out."""
    findings = judge_honoured(TensorRtLlmSettings(), _BUILD, has_torch=True)

    names = [name for finding in findings for name in finding.text.split(", ")]
    assert sorted(names) == sorted(OPTIONAL_FIELDS)


def test_a_lesser_build_refuses_more() -> None:
    """Without the keyword of the salt, and without torch."""
    findings = judge_honoured(TensorRtLlmSettings(), {"keywords": []}, has_torch=False)

    refused = next(finding for finding in findings if finding.name == "refuses")
    assert {"cache_salt", "sampling.logit_bias"} <= set(refused.text.split(", "))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_its_child(
    machine: GpuMachine, tmp_path: Path, number: signal.Signals
) -> None:
    """A probe that hangs does not outlive whoever presses Ctrl-C."""
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    machine.command("nvidia-smi", f"echo $$ > {fifo}; exec sleep 600")
    doctor = subprocess.Popen(
        [sys.executable, "-m", "headrace", "doctor"], stdout=subprocess.DEVNULL, stderr=2
    )
    try:
        # Opens when the probe does.
        probe = os.pidfd_open(int(fifo.read_text(encoding="utf-8")))
        doctor.send_signal(number)

        assert doctor.wait(30) == 128 + number
        assert select.select([probe], [], [], 30)[0]
        os.close(probe)
    finally:
        doctor.kill()
        doctor.wait()


def test_a_model_that_is_not_there_is_one_sentence(
    machine: GpuMachine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before anything is examined."""
    machine.nvidia_smi(H100)

    assert command(["doctor", "--model", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith("headrace: model directory ")


@pytest.mark.parametrize("flag", ["0", "much", "1e9", "nan"])
def test_a_deadline_has_bounds(flag: str) -> None:
    """Wrong arguments end with 2."""
    with pytest.raises(SystemExit) as caught:
        command(["doctor", "--smoke-seconds", flag])

    assert caught.value.code == 2


def test_help_tells_verdicts_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """And shows lines to copy."""
    with pytest.raises(SystemExit):
        command(["doctor", "--help"])

    text = capsys.readouterr().out
    assert "FAIL, it will not serve" in text
    assert "Exit code 0" in text
    assert "headrace doctor --model ./" in text
