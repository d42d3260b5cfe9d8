"""What the Dockerfiles promise, read from their text: they cannot be built in a test."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from edge.settings import EdgeSettings
from headrace.cli.tables import load_settings, settings_tables
from tests.support.dockerfile import Dockerfile
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
IMAGES = ("edge", "tokenizer", "worker-openvino", "worker-tensorrt-llm")
PORTS = {
    "edge": EdgeSettings().server.port,
    "tokenizer": TokenizerSettings().port,
    "worker": WorkerSettings().port,
}

pytestmark = pytest.mark.parametrize("image", IMAGES)


def read(image: str) -> Dockerfile:
    return Dockerfile.read(ROOT / "docker" / f"{image}.Dockerfile")


def test_bases_are_pinned(image: str) -> None:
    """Every base is a full name with a version as its tag, never `latest`."""
    for stage in read(image).stages:
        host, _, rest = stage.base.partition("/")
        assert "." in host
        assert re.search(r":\d+\.\d+\.\d+[\w.-]*$", rest), stage.base


def test_nothing_comes_from_an_address(image: str) -> None:
    """No ADD, and no step that fetches anything but what the locks name."""
    for stage in read(image).stages:
        assert not stage.texts("ADD")
        for step in stage.texts("RUN"):
            assert not re.search(r"\b(curl|wget|apt-get|git|pip install)\b|https?:", step), step


def test_runs_as_a_numbered_user(image: str) -> None:
    """The last USER is a number other than root's: Kubernetes' runAsNonRoot can tell no name."""
    users = read(image).image.texts("USER")
    assert users[-1] == "65532:65532"


def test_environment(image: str) -> None:
    """Python imports nothing from the working folder, writes no bytecode, holds no output back."""
    environment = read(image).image.environment()
    for name in ("PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        assert environment[name] == "1"
    assert environment["HOME"] == "/tmp"  # noqa: S108 (the one folder that can be written)


def test_settings_of_the_environment_are_good(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every HEADRACE_ variable names a setting and has a value that it takes."""
    environment = read(image).image.environment()
    own = {name: value for name, value in environment.items() if name.startswith("HEADRACE_")}
    assert "HEADRACE_MODELS__CACHE_DIR" in own
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    for table, settings in settings_tables().items():
        load_settings(table, settings, None)


def test_images_set_no_address(image: str) -> None:
    """The environment wins over a settings file: an image says nothing that a file should say."""
    environment = read(image).image.environment()
    own = {name for name in environment if name.startswith("HEADRACE_")}
    assert own <= {"HEADRACE_MODELS__CACHE_DIR", "HEADRACE_WORKER__ENGINE"}


def test_ends_in_order(image: str) -> None:
    """The service itself is process 1 and is sent the signal that drains it."""
    file = read(image)
    assert file.entrypoint() == ["headrace", image.split("-", maxsplit=1)[0]]
    assert file.image.texts("STOPSIGNAL") == ["SIGTERM"]
    assert file.image.texts("HEALTHCHECK") == ["NONE"]


def test_port_is_the_services(image: str) -> None:
    """The port that is declared is the settings' default."""
    assert read(image).image.texts("EXPOSE") == [str(PORTS[image.split("-", maxsplit=1)[0]])]


def test_installs_by_the_script(image: str) -> None:
    """The steps are those that test_images runs, for this image, and are not in the last stage."""
    file = read(image)
    steps = [step for stage in file.stages for step in stage.texts("RUN")]
    assert sum("docker/build-wheel.sh /wheel" in step for step in steps) == 1
    assert sum(f"docker/install.sh {image} " in step for step in steps) == 1
    assert len(file.stages) == 2
    last = " ".join(file.image.texts("RUN"))
    assert "build-wheel.sh" not in last
    assert not file.image.sources()
    if image != "worker-tensorrt-llm":
        assert "install.sh" not in last
        assert "/usr/local/bin/pip*" in last


def test_labels(image: str) -> None:
    """Title, version and licence are there; the version is that of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = " ".join(read(image).image.texts("LABEL"))
    assert f'org.opencontainers.image.title="headrace-{image}"' in labels
    assert f'org.opencontainers.image.version="{project["version"]}"' in labels
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in labels


def test_context_holds_what_is_copied(image: str) -> None:
    """Each source of COPY exists and is let in by .dockerignore, which shuts out all else."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in patterns
    let_in = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    for source in read(image).stages[0].sources():
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in let_in), source
