"""`headrace serve` with examples/seeds.toml, as an operator runs it, and curl as a reader has it.

The vendors' hosts lead to loopback and have a certificate of a test's authority; the example itself
is changed nowhere: what a test needs beside it is appended. Numerics are reproducible.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.stack import ROOT, START_SECONDS, clean_environment, wait_for

TLS_HOSTS = {
    "api.pinstripes.io": 443,
    "api.ymq-01.edge.polargrid.ai": 55111,
    "api.openpipe.ai": 443,
}
PLAIN_HOSTS = {"studio.premai.io": 80}
_STOP_SECONDS = 60.0
_STATUS = re.compile(rb"^HTTP/\S+ (\d+)", re.MULTILINE)
_APPENDED = """
[edge.server]
tls_port = 0
tls_certificate_file = "{certificate}"
tls_key_file = "{key}"

[worker.openvino]
numerics = "reproducible"
kv_cache_bytes = {kv_cache_bytes}
"""
_KV_CACHE_BYTES = 384 << 20
# A busy machine's share of what the example allows to one request of many outputs.
_LIMIT = {"HEADRACE_EDGE__LIMITS__MAX_TOTAL_TOKENS": "500"}


@dataclass(frozen=True)
class CurlAnswer:
    """What curl printed; `statuses` holds those of interim responses too."""

    statuses: tuple[int, ...]
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        """The final one."""
        return self.statuses[-1]


@dataclass(frozen=True)
class ServedSeeds:
    """A running `headrace serve`; `folder` holds curl's wrapper and its dumps of headers."""

    port: int
    tls_port: int
    authority: Path
    folder: Path

    def curl(self, line: str) -> CurlAnswer:
        """Run a shell line in which `curl` finds the vendors' hosts on loopback."""
        heads = Path(tempfile.mkstemp(dir=self.folder)[1])
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", line],
            capture_output=True,
            check=False,
            timeout=120,
            env={**clean_environment(), "PATH": path, "HEADS": str(heads)},
        )
        assert done.returncode == 0, done.stderr.decode()
        blocks = heads.read_bytes().split(b"\r\n\r\n")[:-1]
        statuses = tuple(int(found[1]) for block in blocks if (found := _STATUS.match(block)))
        pairs = (row.split(": ", 1) for row in blocks[-1].decode().split("\r\n")[1:])
        return CurlAnswer(statuses, {k.lower(): v for k, v in pairs}, done.stdout)

    def install_curl(self) -> None:
        """Put a `curl` into a folder of its own that adds where hosts are and whom to trust."""
        real = shutil.which("curl")
        hosts = [
            *(f"{host}:{port}:127.0.0.1:{self.tls_port}" for host, port in TLS_HOSTS.items()),
            *(f"{host}:{port}:127.0.0.1:{self.port}" for host, port in PLAIN_HOSTS.items()),
        ]
        added = " ".join(f"--connect-to {host}" for host in hosts)
        script = self.folder / "bin" / "curl"
        script.parent.mkdir()
        script.write_text(
            f"#!/bin/sh\nexec {real} -sS --noproxy '*' --cacert {self.authority} {added} "
            '-D "$HEADS" "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)


@contextmanager
def served_seeds(folder: Path) -> Iterator[ServedSeeds]:
    """Serve the example until the end, which must be an orderly one."""
    authority = Authority(folder)
    pair = authority.issue(*TLS_HOSTS)
    config = folder / "seeds.toml"
    appended = _APPENDED.format(
        certificate=pair.certificate, key=pair.key, kv_cache_bytes=_KV_CACHE_BYTES
    )
    config.write_text((ROOT / "examples" / "seeds.toml").read_text("utf-8") + appended, "utf-8")
    free = ("--port", "0", "--tokenizer-port", "0", "--worker-port", "0")
    output, errors = folder / "stdout", folder / "stderr"
    with output.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "headrace", "serve", "--config", str(config), *free],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**clean_environment(), **_LIMIT},
            start_new_session=True,
        )
    try:

        def greeting() -> str | None:
            assert process.poll() is None, errors.read_text("utf-8")
            text = output.read_text("utf-8")
            return text if "Try it" in text else None

        text = wait_for(greeting, "serve is ready", START_SECONDS)
        ports = [int(port) for port in re.findall(r"//127\.0\.0\.1:(\d+)/v1$", text, re.MULTILINE)]
        served = ServedSeeds(ports[0], ports[1], authority.file, folder)
        served.install_curl()
        yield served
        process.terminate()
        assert process.wait(_STOP_SECONDS) == 0, errors.read_text("utf-8")
        assert "Traceback" not in errors.read_text("utf-8")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
