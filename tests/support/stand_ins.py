"""Wheels that hold a name, a version and requirements, and no more than one empty module."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path


def stand_in(folder: Path, requirement: str, requires: Iterable[str] = ()) -> Path:
    """Write a wheel for `requirement`, name==version, to `folder`; returns its file."""
    name, version = requirement.split("==")
    stem = f"{re.sub(r'[-_.]+', '_', name)}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    tags = [
        "Wheel-Version: 1.0",
        "Generator: stand-in",
        "Root-Is-Purelib: true",
        "Tag: py3-none-any",
    ]
    info = f"{stem}.dist-info"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name.replace('-', '_')}/__init__.py", "")
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", "\n".join(tags) + "\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return wheel
