import contextlib
import json
import shlex
import socket
from argparse import Namespace
from pathlib import Path

import pytest

from headrace.cli.child import ChildSpec
from headrace.cli.ports import claim_port
from headrace.cli.serve import parse_arguments
from headrace.cli.serve_plan import make_plan
from headrace.runtime.errors import StartError
from tests.support.certificates import Authority

WILDCARD = "0.0.0.0"  # noqa: S104 (nothing is bound to it for longer than a check)
ANY_PORTS = ("--port", "0", "--tokenizer-port", "0", "--worker-port", "0")


def arguments(*argv: str) -> Namespace:
    return parse_arguments([*ANY_PORTS, *argv])


def flag(spec: ChildSpec, name: str) -> str:
    return spec.command[spec.command.index(name) + 1]


def taken_after_a_free_one() -> socket.socket:
    """A listener whose port follows one that nobody listens on."""
    for _ in range(100):
        free = claim_port("127.0.0.1", 0, "the test", "nothing")
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", free + 1))
    raise AssertionError("no two ports in a row are free")


def test_the_edge_is_told_where_all_others_are() -> None:
    """Every tokenizer and worker has a port of its own, and the edge knows each."""
    plan = make_plan(arguments("--workers", "2", "--tokenizers", "2"))
    *others, edge = plan.child_specs(Path("/m"))

    assert [spec.name for spec in others] == ["tokenizer 1", "tokenizer 2", "worker 1", "worker 2"]
    told = json.loads(flag(edge, "--backend.tokenizer_addresses"))
    told += json.loads(flag(edge, "--backend.worker_addresses"))
    assert told == [spec.address for spec in others]
    assert told == [f"127.0.0.1:{flag(spec, '--port')}" for spec in others]
    assert len(set(told)) == 4


def test_ends_edge_before_worker_before_tokenizer() -> None:
    """Ranks say who is needed by whom."""
    ranks = {spec.name: spec.rank for spec in make_plan(arguments()).child_specs(Path("/m"))}

    assert sorted(ranks, key=lambda name: ranks[name]) == ["tokenizer", "worker", "edge"]


def test_flags_beat_the_settings_file(tmp_path: Path) -> None:
    """Ports, model and engine come from the file unless a flag says otherwise."""
    file = tmp_path / "settings.toml"
    file.write_text('[worker]\nengine = "paced"\nmodel = "./m"\ndrain_grace_seconds = 1\n')
    from_file = make_plan(arguments("--config", str(file)))
    by_flag = make_plan(arguments("--config", str(file), "--engine", "openvino", "--model", "n"))

    assert (from_file.engine, from_file.model) == ("paced", "./m")
    assert (by_flag.engine, by_flag.model) == ("openvino", "n")
    worker = from_file.child_specs(Path("/m"))[1]
    assert worker.stop_seconds == 6
    assert flag(worker, "--config") == str(file)


def test_the_printed_curl_line_can_be_pasted() -> None:
    """The line survives a shell: one address, one header, one JSON body."""
    plan = make_plan(arguments())
    [line] = [line for line in plan.greeting("m", 1.0).splitlines() if line.startswith("curl")]
    words = shlex.split(line)

    assert words[2] == f"http://127.0.0.1:{plan.port}/v1/chat/completions"
    assert json.loads(words[-1])["model"] == "m"


def test_a_wildcard_address_is_printed_as_one_to_connect_to() -> None:
    """Nobody can connect to 0.0.0.0: the curl line says loopback."""
    plan = make_plan(arguments("--host", WILDCARD, "--insecure"))

    assert f"http://127.0.0.1:{plan.port}/v1" in plan.greeting("m", 1.0)
    assert flag(plan.child_specs(Path("/m"))[-1], "--server.host") == WILDCARD


def test_tls_of_the_settings_file_is_spoken(tmp_path: Path) -> None:
    """With a certificate configured, address and curl line say https."""
    file = tmp_path / "settings.toml"
    file.write_text('[edge.server]\ntls_certificate_file = "c"\ntls_key_file = "k"\n')

    assert "curl -Nk https://" in make_plan(arguments("--config", str(file))).greeting("m", 1.0)


def test_tls_beside_plain_http_is_shown(tmp_path: Path) -> None:
    """The curl line stays plain; the other address is printed, and its port handed on."""
    file = tmp_path / "settings.toml"
    file.write_text('[edge.server]\ntls_certificate_file = "c"\ntls_key_file = "k"\ntls_port = 0\n')
    plan = make_plan(arguments("--config", str(file)))
    greeting = plan.greeting("m", 1.0)

    assert "curl -N http://" in greeting
    assert f"https://127.0.0.1:{plan.tls_port}/v1" in greeting
    assert flag(plan.child_specs(Path("/m"))[-1], "--server.tls_port") == str(plan.tls_port)


def test_tls_on_one_side_only_is_refused(tmp_path: Path) -> None:
    """A run in which the edge could never connect does not start."""
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    server = f'certificate_file = "{pair.certificate}"\nkey_file = "{pair.key}"\n'
    client = f'[edge.backend.tls]\nca_file = "{authority.file}"\n'
    file = tmp_path / "settings.toml"
    for text, problem in (
        (f"[worker.tls]\n{server}", r"\[worker.tls\] is set"),
        (f"{client}[tokenizer.tls]\n{server}", r"\[worker.tls\] has no certificate"),
    ):
        file.write_text(text)
        with pytest.raises(StartError, match=problem):
            make_plan(arguments("--config", str(file)))
    file.write_text(f"{client}[worker.tls]\n{server}[tokenizer.tls]\n{server}")

    assert make_plan(arguments("--config", str(file))).peers.uses_tls


def test_the_curl_line_shows_a_key_where_one_is_wanted(tmp_path: Path) -> None:
    """A place for it, and never a key."""
    file = tmp_path / "settings.toml"
    file.write_text('[edge.keys]\nfile = "keys.toml"\n')
    greeting = make_plan(arguments("--config", str(file))).greeting("m", 1.0)

    assert "Authorization: Bearer YOUR_KEY" in shlex.split(greeting.splitlines()[-2])
    assert "Authorization" not in make_plan(arguments()).greeting("m", 1.0)


@pytest.mark.parametrize("service", ["worker", "tokenizer"])
def test_services_with_keys_need_an_edge_with_one(tmp_path: Path, service: str) -> None:
    """It would be turned away for ever; keys at the edge alone are enough otherwise."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[{service}.keys]\nfile = "keys.toml"\n')
    with pytest.raises(StartError, match=rf"\[{service}\.keys\] names a file.*api_key_file"):
        make_plan(arguments("--config", str(file)))
    file.write_text(file.read_text() + '[edge.backend]\napi_key_file = "edge.key"\n')

    assert make_plan(arguments("--config", str(file)))


def test_a_taken_port_of_the_second_worker_is_named() -> None:
    """All ports are looked at before anything starts, not only the first."""
    with taken_after_a_free_one() as server:
        taken = server.getsockname()[1]
        message = f"port {taken} on 127.0.0.1, which the worker needs, is taken"
        with pytest.raises(StartError, match=message):
            make_plan(arguments("--workers", "2", "--worker-port", str(taken - 1)))


def test_two_services_on_one_port_are_refused() -> None:
    """The same port twice is told before the second one fails to start."""
    port = str(make_plan(arguments()).port)
    with pytest.raises(StartError, match=f"two services would listen on port {port}"):
        make_plan(arguments("--port", port, "--worker-port", port))


def test_ports_beyond_the_last_are_refused() -> None:
    """Consecutive ports that run past 65535 are one sentence."""
    with pytest.raises(StartError, match="3 workers from port 65534 on end beyond"):
        make_plan(arguments("--workers", "3", "--worker-port", "65534"))


@pytest.mark.parametrize("wrong", [("--workers", "0"), ("--port", "x"), ("--port", "65536")])
def test_wrong_numbers_are_refused(
    wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A number out of range ends with 2 and names the flag and what it takes."""
    with pytest.raises(SystemExit) as caught:
        parse_arguments([*wrong])

    assert caught.value.code == 2
    assert f"argument {wrong[0]}: invalid" in capsys.readouterr().err


def test_traces_go_to_the_parent_alone() -> None:
    """Each child sends every request's spans, soon, to one port of loopback; without, to nobody."""
    plan = make_plan(arguments("--trace", "--workers", "2"))
    specs = plan.child_specs(Path("/m"))
    endpoints = {flag(spec, "--telemetry.tracing.endpoint") for spec in specs}

    assert endpoints == {f"http://127.0.0.1:{plan.trace_port}"}
    assert {flag(spec, "--telemetry.tracing.sample_ratio") for spec in specs} == {"1"}
    assert "traces" in plan.greeting("m", 1.0)
    silent = make_plan(arguments())
    assert silent.trace_port is None
    assert not any(
        "telemetry" in word for s in silent.child_specs(Path("/m")) for word in s.command
    )
    assert "traces" not in silent.greeting("m", 1.0)


@pytest.mark.parametrize("service", ["edge", "tokenizer", "worker"])
def test_traces_are_not_taken_away_from_a_collector(tmp_path: Path, service: str) -> None:
    """Settings that send spans elsewhere are not overruled in silence."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[{service}.telemetry.tracing]\nendpoint = "http://127.0.0.1:4317"\n')

    with pytest.raises(StartError, match=rf"--trace.*\[{service}.telemetry.tracing\] endpoint"):
        make_plan(arguments("--config", str(file), "--trace"))
    assert make_plan(arguments("--config", str(file))).trace_port is None


def test_health_ports_follow_one_another() -> None:
    """The edge's is the one that was given, each other process has the next; the greeting shows."""
    first = free_ports_in_a_row(4)
    plan = make_plan(arguments("--health-port", str(first), "--workers", "2"))
    told = {
        spec.name: int(flag(spec, "--telemetry.health.port"))
        for spec in plan.child_specs(Path("/m"))
    }

    assert told == {
        "edge": first,
        "tokenizer": first + 1,
        "worker 1": first + 2,
        "worker 2": first + 3,
    }
    [line] = [line for line in plan.greeting("m", 1.0).splitlines() if "health" in line]
    assert f"127.0.0.1:{first} (edge), 127.0.0.1:{first + 1} (tokenizer)" in line


def free_ports_in_a_row(count: int) -> int:
    """The first of so many ports that nobody listens on."""
    for _ in range(100):
        first = claim_port("127.0.0.1", 0, "the test", "nothing")
        with contextlib.suppress(StartError):
            for port in range(first, first + count):
                claim_port("127.0.0.1", port, "the test", "nothing")
            return first
    raise AssertionError(f"no {count} ports in a row are free")


def test_health_ports_of_the_settings_file(tmp_path: Path) -> None:
    """Only the services that have one there get one; several workers do not share it."""
    first = free_ports_in_a_row(2)
    file = tmp_path / "settings.toml"
    file.write_text(f"[worker.telemetry.health]\nport = {first}\n")
    plan = make_plan(arguments("--config", str(file), "--workers", "2"))
    tokenizer, *workers, edge = plan.child_specs(Path("/m"))

    told = [flag(spec, "--telemetry.health.port") for spec in workers]
    assert told == [str(first), str(first + 1)]
    for spec in (tokenizer, edge):
        assert "--telemetry.health.port" not in spec.command


def test_without_a_health_port_there_is_none() -> None:
    """By default nothing more is listened on; 0 is any free one."""
    plan = make_plan(arguments())
    assert plan.health_ports.ports == ()
    assert "health" not in plan.greeting("m", 1.0)

    ports = make_plan(arguments("--health-port", "0")).health_ports.ports
    assert len(set(ports)) == 3
    assert 0 not in ports


def test_health_ports_that_cannot_be_are_refused() -> None:
    """Taken by another service of the run, or beyond the last port."""
    port = free_ports_in_a_row(3)
    with pytest.raises(StartError, match=f"two services would listen on port {port}"):
        make_plan(arguments("--health-port", str(port), "--worker-port", str(port)))
    with pytest.raises(StartError, match="beyond port 65535: see --health-port"):
        make_plan(arguments("--health-port", "65535"))
