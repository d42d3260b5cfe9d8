"""Clusters of fake pods, with the times of Kubernetes' own parts made short."""

from pathlib import Path

import pytest

from tests.helm.chart import ROOT
from tests.kubelet.cluster import Cluster
from tests.kubelet.fake_objects import SWITCHES
from tests.kubelet.node import Timing

LAG_SECONDS = 0.8
BACK_OFF_SECONDS = 0.4


@pytest.fixture
def switches(tmp_path: Path) -> Path:
    """The folder that all fake services look into."""
    folder = tmp_path / "switches"
    folder.mkdir()
    return folder


@pytest.fixture
def cluster(tmp_path: Path, switches: Path) -> Cluster:
    """Not yet entered: it belongs to the test's own task."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    timing = Timing(LAG_SECONDS, restart_back_off=BACK_OFF_SECONDS, shortest_grace=0.1)
    host_paths = {SWITCHES: switches}
    secrets = {"known": {"key": "s3cret"}}
    return Cluster(folder, {"1": ROOT}, host_paths=host_paths, secrets=secrets, timing=timing)
