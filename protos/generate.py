"""Generate the Python stubs of protos/ into headrace/, with the grpcio-tools that pyproject pins.

Services get gRPC stubs, every file gets messages and type stubs. `--check` writes nothing and exits
with 1 when a committed stub differs from what the protos say.
"""

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"


def generate(target: Path) -> None:
    """Write the stubs of every proto below `target`; exits with protoc's status when it fails."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("headrace/**/*.proto"))
    services = [name for name in files if name.endswith("service.proto")]
    # The plugins of this very environment, whatever the path holds.
    plugins = [
        f"--plugin={name}={Path(sys.executable).parent / name}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    common = ["protoc", f"-I{PROTOS}", *plugins]
    messages = [*common, f"--python_out={target}", f"--mypy_out=quiet:{target}"]
    stubs = [*common, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
    for status in (protoc.main([*messages, *files]), protoc.main([*stubs, *services])):
        if status:
            sys.exit(status)


def drifted() -> list[str]:
    """Names of committed stubs that are missing, stale or left over."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        expected = {str(path.relative_to(fresh)) for path in fresh.glob("headrace/**/*_pb2*")}
        present = {
            str(path.relative_to(ROOT))
            for path in ROOT.glob("headrace/**/*_pb2*.py*")
            if path.suffix != ".pyc"  # what Python caches beside them
        }
        changed = {
            name
            for name in expected & present
            if not filecmp.cmp(fresh / name, ROOT / name, shallow=False)
        }
    return sorted((expected ^ present) | changed)


def main() -> None:
    """Regenerate, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail on drift, write nothing")
    if not parser.parse_args().check:
        generate(ROOT)
        return
    stale = drifted()
    for name in stale:
        sys.stderr.write(f"stub differs from its proto: {name} (run: make protos)\n")
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main()
