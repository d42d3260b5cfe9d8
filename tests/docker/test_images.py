"""The install steps of each image, run as they stand for an environment in place of a base image.

There is no container engine to build an image with: what is tried is docker/build-wheel.sh and
docker/install.sh, from a folder that holds what the Dockerfile copies and nothing else. The steps
fetch packages by pip, from the index that it is configured for.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dockerfile import Dockerfile
from tests.support.image_python import ImagePython, images_python
from tests.support.stand_ins import stand_in

ROOT = Path(__file__).parents[2]
GPU = "worker-tensorrt-llm"
# Packages that only the others need, and what builds or installs.
FOREIGN = {
    "edge": {"tokenizers", "jinja2", "llguidance", "numpy", "openvino"},
    "tokenizer": {"aiohttp", "openvino", "gguf"},
    "worker-openvino": {"aiohttp", "tensorrt-llm", "torch"},
}
TOOLS = {"pip", "setuptools", "wheel", "hatchling", "editables", "uv"}
# Beside TensorRT-LLM 1.2.1, as far as it is written down; grpcio, protobuf and pydantic, of which
# nothing is, as old as our ranges allow.
REAL_PINS = (
    "numpy==1.26.4",
    "tokenizers==0.22.1",
    "llguidance==0.7.29",
    "grpcio==1.72.2",
    "protobuf==6.30.2",
    "pydantic==2.11.7",
    "pydantic-core==2.33.2",
    "pydantic-settings==2.9.1",
    "annotated-types==0.7.0",
    "python-dotenv==1.1.0",
    "typing-inspection==0.4.0",
    "typing-extensions==4.14.0",
)
STAND_INS = {
    "tensorrt-llm==1.2.1": (
        "numpy<2",
        "transformers==4.57.1",
        "llguidance==0.7.29",
        "torch>=2.9,<2.11",
        "pydantic>=2.9.1",
    ),
    "torch==2.9.1": ("typing-extensions>=4.10",),
    "transformers==4.57.1": ("tokenizers>=0.22,<=0.23.0", "huggingface-hub>=0.34,<1.0"),
    "huggingface-hub==0.36.0": (),
    # NVIDIA's images have complaints of their own before anything is added.
    "etcd3==0.12.0": ("a-package-that-is-not-there",),
}
USE = """
import worker.engine.seam, worker.engine.tensorrt_llm.library
from headrace.worker.v1.generation_pb2 import GenerationRequest
from tokenizers import Tokenizer
from tokenizers.models import BPE
import llguidance, numpy, tensorrt_llm
request = GenerationRequest.FromString(GenerationRequest(request_id="r1").SerializeToString())
assert request.request_id == "r1"
tokenizer = Tokenizer(BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
assert tokenizer.encode("ab").ids == [2]
assert numpy.__version__ == "1.26.4"
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Steps:
    """The install steps of an image, in a folder of their own with a home of their own."""

    def __init__(self, folder: Path, python: str) -> None:
        self.context, self.wheels = folder / "src", folder / "wheel"
        self._python = python
        self._home, self._temporary = folder / "home", folder / "tmp"
        for made in (self.context, self._home, self._temporary):
            made.mkdir()

    def take(self, image: str) -> None:
        """Copy what the Dockerfile copies."""
        for source in Dockerfile.read(ROOT / "docker" / f"{image}.Dockerfile").stages[0].sources():
            target = self.context / source
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(ROOT / source, target, ignore=ignored, dirs_exist_ok=True)
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, target)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One script; afterwards neither a cache of pip nor a temporary file is left."""
        environment = os.environ | {
            "HOME": str(self._home),
            "TMPDIR": str(self._temporary),
            "PYTHON": self._python,
        }
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [f"docker/{script}", *arguments],
            cwd=self.context,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stdout.write(done.stdout + done.stderr)
        assert not list(self._temporary.iterdir())
        assert not (self._home / ".cache").exists()
        return done

    def install(self, image: str, target: ImagePython) -> subprocess.CompletedProcess[str]:
        """What the Dockerfile's step does."""
        return self.run("install.sh", image, target.target, str(self.wheels))


@pytest.fixture(scope="module")
def python() -> str:
    """The images' Python, or with a word about it the one that runs the tests."""
    found = images_python()
    if found is None:
        sys.stdout.write(f"no Python of the images' version: {sys.version} stands in\n")
    return found or sys.executable


@pytest.fixture(scope="module")
def built(python: str, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The steps, with the wheel built from what the Dockerfile of an image copies."""
    steps = Steps(tmp_path_factory.mktemp("image"), python)
    steps.take(GPU)
    assert steps.run("build-wheel.sh", str(steps.wheels)).returncode == 0
    return steps


@pytest.fixture
def target(python: str, tmp_path: Path) -> ImagePython:
    """An environment without pip, empty."""
    return ImagePython(tmp_path / "environment", python)


def stand_ins_of_the_lock(folder: Path, *but: str) -> list[Path]:
    """A wheel without content for all that the GPU image's lock pins but what `but` names."""
    lock = (ROOT / "requirements" / f"{GPU}.lock").read_text().splitlines()
    pins = [line.split()[0] for line in lock if line[:1].isalnum()]
    assert {pin.split("==")[0] for pin in pins} > set(but)
    return [stand_in(folder, pin) for pin in pins if pin.split("==")[0] not in but]


@pytest.mark.parametrize("image", FOREIGN)
def test_image_holds_what_its_service_needs(image: str, built: Steps, target: ImagePython) -> None:
    """Its lock is enough for every module and for the command; nothing else is in there."""
    assert built.install(image, target).returncode == 0
    packages = target.packages()
    assert "headrace" in packages
    assert not packages.keys() & (FOREIGN[image] | TOOLS)
    target.pip("check")
    before = target.files()
    service = image.split("-", maxsplit=1)[0]
    assert "usage: headrace" in target.run("-m", "headrace", service, "--help").stdout
    assert f"[{service}]" in target.run("-m", "headrace", service, "--print-config").stdout
    assert target.files() == before, "a read-only file system is enough"


def test_nvidias_packages_stay(built: Steps, target: ImagePython, tmp_path: Path) -> None:
    """Beside NVIDIA's pins ours installs, works on them, and none of them has changed."""
    if images_python() is None:
        pytest.skip("needs Python 3.12, which NVIDIA's image has: see the lock's own test")
    target.pip("install", "--quiet", "--no-deps", "--only-binary", ":all:", *REAL_PINS)
    target.add([stand_in(tmp_path, pin, requires) for pin, requires in STAND_INS.items()])
    before = target.packages()
    assert built.install(GPU, target).returncode == 0
    after = target.packages()
    assert before.items() <= after.items()
    assert {pin.split("==")[0] for pin in (*REAL_PINS, *STAND_INS)} == before.keys()
    assert not (after.keys() - before.keys()) & TOOLS
    target.run("-c", USE)
    help_text = target.run("-m", "headrace", "worker", "--help").stdout
    assert "--tensorrt_llm.tensor_parallel" in help_text


def test_gpu_lock_is_wheels_of_its_python(python: str, tmp_path: Path) -> None:
    """Every package of the GPU image's lock is there for Python 3.12 as a wheel of that hash."""
    command = [python, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--python-version", "3.12"]
    command += ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"]
    command += ["--dest", str(tmp_path), "-r", str(ROOT / "requirements" / f"{GPU}.lock")]
    subprocess.run(command, check=True)
    assert len(list(tmp_path.glob("*.whl"))) == len(stand_ins_of_the_lock(tmp_path)) > 10


def test_too_old_a_package_is_named(built: Steps, target: ImagePython, tmp_path: Path) -> None:
    """Where the base has a protobuf below our range the build ends, says so, and leaves it."""
    target.add(stand_ins_of_the_lock(tmp_path, "protobuf"))
    target.add([stand_in(tmp_path, "protobuf==5.29.5")])
    done = built.install(GPU, target)
    assert done.returncode != 0
    assert "protobuf" in done.stderr
    assert "does not meet the ranges" in done.stderr
    assert target.packages()["protobuf"] == "5.29.5"


def test_module_that_cannot_be_imported_ends_the_build(
    built: Steps, target: ImagePython, tmp_path: Path
) -> None:
    """Names and versions are not enough: packages without content fail the import test."""
    target.add(stand_ins_of_the_lock(tmp_path))
    done = built.install(GPU, target)
    assert done.returncode != 0
    assert "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr


def test_new_complaint_ends_the_build(built: Steps, target: ImagePython, tmp_path: Path) -> None:
    """What is added must fit what is there: pip's complaint about the addition is an error."""
    target.add(stand_ins_of_the_lock(tmp_path, "grpcio-health-checking", "grpcio"))
    target.add([stand_in(tmp_path, "grpcio==1.72.2")])
    target.add([stand_in(tmp_path, "humble==1.0", ["headrace>=99"])])
    done = built.install(GPU, target)
    assert done.returncode != 0
    assert "humble 1.0 has requirement headrace>=99" in done.stdout
    assert "pip check complains" in done.stderr


def test_package_that_changed_is_named(target: ImagePython, tmp_path: Path) -> None:
    """The comparison of before and after names what was replaced and what is gone."""
    target.add([stand_in(tmp_path, "kept==1.0"), stand_in(tmp_path, "replaced==1.0")])
    packages = str(ROOT / "docker" / "packages.py")
    listed = tmp_path / "listed"
    listed.write_text(target.run(packages, "list").stdout + "gone==2.0\n")
    target.add([stand_in(tmp_path, "replaced==1.1")])
    with pytest.raises(subprocess.CalledProcessError) as failure:
        target.run(packages, "unchanged", str(listed))
    assert failure.value.stdout.splitlines() == [
        "replaced was 1.0 and is 1.1",
        "gone was 2.0 and is gone",
    ]
