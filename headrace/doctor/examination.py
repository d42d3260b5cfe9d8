"""The order of the examination: from what everything else rests on to what rests on it all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.doctor.cuda import ask_cuda, find_toolkit, judge_cuda, judge_toolkit
from headrace.doctor.finding import Finding
from headrace.doctor.gpus import GpuFacts, find_gpus, judge_driver, judge_gpus, judge_use
from headrace.doctor.host import (
    Places,
    judge_limits,
    judge_memory,
    judge_python,
    judge_shared_memory,
    read_host,
)
from headrace.doctor.library import ask_library, judge_build, judge_library
from headrace.doctor.model_files import ModelFacts, judge_fit, judge_model, read_model
from headrace.doctor.mpi import ask_mpi, find_mpirun, judge_mpi, judge_mpirun
from headrace.doctor.torch import ask_torch, judge_torch


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each kind of probe may take, in seconds; a load off a cold disk takes minutes."""

    command: float = 20.0
    library: float = 300.0


@dataclass
class Examination:
    """One run over a machine; `examine` fills in what was found as it goes.

    `world_size` GPUs in all share the weights, `local_gpus` of them on this machine.
    """

    world_size: int = 1
    local_gpus: int = 1
    model: Path | None = None
    patience: Patience = field(default_factory=Patience)
    places: Places = field(default_factory=Places)
    gpus: GpuFacts = field(default_factory=GpuFacts)
    announce: Callable[[str], None] = lambda _what: None
    """Told what is about to take long."""
    torch: dict[str, Any] | None = None
    library: dict[str, Any] | None = None

    def find_gpus(self) -> None:
        """The first question, whose answer decides what the others are worth."""
        self.gpus = find_gpus(self.patience.command)

    def examine(self) -> Iterator[Finding]:
        """Everything but a request; each finding as soon as it is made. After `find_gpus`."""
        yield from self._graphics()
        yield from self._software()
        yield from self._host()

    def _graphics(self) -> Iterator[Finding]:
        yield from judge_gpus(self.gpus)
        cuda = ask_cuda(seconds=self.patience.command)
        if self.gpus.gpus:
            version = None if cuda.facts is None else cuda.facts["version"]
            yield judge_driver(self.gpus, version)
            yield judge_use(self.gpus)
        yield judge_cuda(cuda)
        yield judge_toolkit(find_toolkit(self.patience.command))

    def _software(self) -> Iterator[Finding]:
        self.announce("starting MPI")
        yield judge_mpi(ask_mpi(self.patience.library))
        yield judge_mpirun(find_mpirun(self.patience.command))
        self.announce("importing torch, which may take a minute")
        torch = ask_torch(self.patience.library)
        self.torch = torch.facts
        yield judge_torch(torch, self.local_gpus)
        self.announce("importing TensorRT-LLM, which may take minutes")
        library = ask_library(self.patience.library)
        self.library = library.facts
        yield judge_library(library)
        if library.facts is not None:
            yield judge_build(library.facts)

    def _host(self) -> Iterator[Finding]:
        host = read_host(self.places)
        model = None if self.model is None else read_model(self.model)
        yield judge_python(host, has_library=self.library is not None)
        yield judge_memory(host, None if model is None else model.weight_bytes)
        yield judge_shared_memory(host, self.local_gpus)
        yield judge_limits(host)
        if model is not None:
            yield judge_model(model)
            if model.weight_bytes and self.gpus.gpus:
                yield self._judge_fit(model)

    def _judge_fit(self, model: ModelFacts) -> Finding:
        """By the memory of the GPUs that a program sees, which are not always all."""
        gpus = self.gpus.gpus
        seen = [gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None]
        free = self.torch["free_bytes"] if self.torch and self.torch["free_bytes"] else seen
        return judge_fit(model, gpus, free[: self.local_gpus], self.world_size)
