"""The one node of a cluster: what all its pods share."""

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kubelet.addresses import AddressBlock
from tests.kubelet.events import EventLog
from tests.kubelet.fields import RefusedError
from tests.kubelet.pod_template import PodTemplate

if TYPE_CHECKING:
    from tests.kubelet.pod import Pod

_PROGRAMS = {"headrace": ["-m", "headrace"], "python": []}
"""Commands of the images, as arguments of this interpreter."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What Kubernetes' own parts take, in seconds."""

    endpoint_lag: float = 2.0
    """Between a pod's no longer being ready and its leaving the endpoints."""
    restart_back_off: float = 1.0
    """Before a container's second restart, doubled for each further one; the first comes at once.

    Kubernetes waits 10 s.
    """
    longest_back_off: float = 300.0
    shortest_grace: float = 2.0
    """Between SIGTERM and SIGKILL, where preStop took all of the grace."""


@dataclass
class Host:
    """What the machine has for pods."""

    images: Mapping[str, Path]
    """Source trees by the images' tags."""
    paths: Mapping[str, Path] = field(default_factory=dict)
    """What hostPath volumes stand for."""
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Files by name, by Secret."""


class Node:
    """Folders, addresses, programs, the log of events, and the tasks that pods are."""

    def __init__(
        self, folder: Path, host: Host, timing: Timing, changed: Callable[[], None]
    ) -> None:
        self.folder = folder
        self.host = host
        self.timing = timing
        self.changed = changed
        """To be called at each change of a pod."""
        self.events = EventLog()
        self.addresses = AddressBlock()
        self.names_file = folder / "names.json"
        self.tasks = asyncio.TaskGroup()
        self.pods: list[Pod] = []
        """All that there ever were."""
        self.config_maps: Mapping[str, Mapping[str, str]] = {}
        """Files by name, by ConfigMap, as they are now."""

    def check(self, template: PodTemplate, config_maps: Collection[str]) -> None:
        """Raise RefusedError where a pod needs what is not there."""
        there: dict[str, Collection[str]] = {
            "image of the tag": self.host.images,
            "command": _PROGRAMS,
            "configMap": config_maps,
            "secret": self.host.secrets,
            "hostPath": self.host.paths,
            "emptyDir": {""},
        }
        needed = [(volume.kind, volume.source) for volume in template.volumes]
        needed += [("image of the tag", template.container.image_tag)]
        needed += [("command", template.container.command[0])]
        for kind, name in needed:
            if name not in there[kind]:
                raise RefusedError(f"{template.container.name}: there is no {kind} {name}")

    def program(self, command: Sequence[str]) -> Sequence[str]:
        """How a container's command is run here."""
        name, *arguments = command
        return [sys.executable, *_PROGRAMS[name], *arguments]

    def environment(self, image_tag: str, home: Path) -> dict[str, str]:
        """What an image and a kubelet set by themselves."""
        names = Path(__file__).with_name("names")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": os.pathsep.join([str(names), str(self.host.images[image_tag])]),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "HOME": str(home),
            "TMPDIR": str(home),
            "KUBELET_NAMES": str(self.names_file),
            "KUBELET_PID": str(os.getpid()),
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "KUBERNETES_SERVICE_PORT": "443",
        }
