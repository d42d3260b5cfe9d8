"""A pod's volumes as folders. Nothing is mounted: paths in what the pod is given are translated."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kubelet.pod_template import PodTemplate, Volume


class Volumes:
    """Of one pod; emptyDirs last as long as it does, whatever its container does."""

    def __init__(self, template: PodTemplate, folder: Path, host_paths: Mapping[str, Path]) -> None:
        self._volumes = template.volumes
        self._folders = {
            volume.name: _folder(volume, folder, host_paths) for volume in template.volumes
        }
        self._mounts = {
            path.rstrip("/"): self._folders[name]
            for path, name in template.container.mounts.items()
        }
        self._pattern = _pattern(list(self._mounts))

    def path(self, mount_path: str) -> Path | None:
        """Where the files of a mount are; None where nothing is mounted there."""
        return self._mounts.get(mount_path)

    def translate(self, text: str) -> str:
        """Replace each mount's path that begins a path in the text, the longest first."""
        if not self._mounts:
            return text
        return self._pattern.sub(lambda found: str(self._mounts[found[0]]), text)

    def fill(self, kind: str, objects: Mapping[str, Mapping[str, str]]) -> None:
        """Write the files of ConfigMaps or Secrets as they are now, each replaced whole."""
        for volume in self._volumes:
            if volume.kind == kind:
                self._write(self._folders[volume.name], objects[volume.source])

    def _write(self, folder: Path, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            beside = folder / f".{name}"
            beside.write_text(self.translate(content), encoding="utf-8")
            beside.replace(folder / name)


def _folder(volume: Volume, folder: Path, host_paths: Mapping[str, Path]) -> Path:
    if volume.kind == "hostPath":
        return host_paths[volume.source]
    made = folder / "volumes" / volume.name
    made.mkdir(parents=True)
    return made


def _pattern(paths: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(paths, key=len, reverse=True)
    return re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w.-])")
