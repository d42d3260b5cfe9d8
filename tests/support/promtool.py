"""Prometheus' own checker, as `make tools` brings it; a missing one is a failure."""

import subprocess
from pathlib import Path

PROMTOOL = Path(__file__).parents[2] / ".tools" / "promtool"


def promtool(*arguments: str | Path, text: bytes = b"", folder: Path | None = None) -> str:
    """Run it on `text` as its standard input; returns what it said, fails where it complains."""
    assert PROMTOOL.exists(), f"{PROMTOOL} is missing: `make tools` brings it"
    done = subprocess.run(
        [PROMTOOL, *arguments], input=text, cwd=folder, capture_output=True, check=False, timeout=60
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, f"promtool {' '.join(map(str, arguments))}: {said}"
    return said
