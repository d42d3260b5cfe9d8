"""A machine with GPUs that is none: commands and libraries that say what the real ones would.

Everything lies in one folder; `install` makes its commands all that is on the PATH, and puts
its libraries on that of programs that are started.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from tests.support.tensorrt_llm import LIBRARY, TORCH

ROOT = Path(__file__).parents[2]
H100 = "NVIDIA H100 80GB HBM3, 580.65.06, 81559, 81008, 9.0"
_TOOLS = ("cat", "mv", "sh", "sleep")
_OPEN_MPI = "mpirun (Open MPI) 5.0.10\n\nReport bugs to https://www.open-mpi.org/community/help/"
_CUDA = """
int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}
int cuInit(unsigned flags) {{ return {status}; }}
"""


class GpuMachine:
    """Fake commands in `folder`/bin, fake Python libraries in `folder`/lib."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.lib = folder / "lib"
        self.bin.mkdir()
        self.lib.mkdir()
        for tool in _TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or "/nonexistent")

    def install(self, monkeypatch: pytest.MonkeyPatch, *more: Path) -> None:
        """Nothing but these commands is on the PATH, whatever the machine of the test has."""
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, self.lib, *more))))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(self.lib))

    def command(self, name: str, script: str) -> Path:
        """A shell script by this name; gives its path."""
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)
        return file

    def says(self, name: str, text: str, status: int = 0) -> None:
        """A command that prints this, and ends."""
        said = self.bin / f"{name}.txt"
        said.write_text(text, encoding="utf-8")
        self.command(name, f"cat '{said}'; exit {status}")

    def nvidia_smi(self, *gpus: str, processes: str = "") -> None:
        """Real-looking answers to both questions; a GPU is the columns after its index."""
        listed, using = self.bin / "gpus.csv", self.bin / "processes.csv"
        rows = [f"{index}, {gpu}\n" for index, gpu in enumerate(gpus)]
        listed.write_text("".join(rows), encoding="utf-8")
        using.write_text(processes, encoding="utf-8")
        self.command(
            "nvidia-smi",
            f'case "$1" in *query-gpu*) cat "{listed}";; *compute-apps*) cat "{using}";; '
            "*) exit 2;; esac",
        )

    def module(self, name: str, source: str) -> None:
        """A Python library of one file."""
        file = self.lib / f"{name}.py"
        file.write_text(source, encoding="utf-8")

    def mpi(self) -> None:
        """OpenMPI and mpi4py."""
        self.says("mpirun", _OPEN_MPI)
        package = self.lib / "mpi4py"
        package.mkdir()
        (package / "__init__.py").write_text('__version__ = "4.1.1"\n', encoding="utf-8")
        library = "Open MPI v5.0.10, package: Open MPI, ident: 5.0.10\\0"
        source = f'def Get_library_version():\n    return "{library}"\n'
        (package / "MPI.py").write_text(source, encoding="utf-8")

    def cuda(self, version: int = 13000, status: int = 0) -> None:
        """A libcuda.so.1, made with the C compiler."""
        source, library = self.lib / "cuda.c", self.lib / "libcuda.so.1"
        source.write_text(_CUDA.format(version=version, status=status), encoding="utf-8")
        made = ["cc", "-shared", "-o", library, source]
        subprocess.run(made, check=True, env={"PATH": os.defpath})
        self.says("nvcc", "Cuda compilation tools, release 13.1, V13.1.80\n")

    def complete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two H100, and all that TensorRT-LLM needs; its double, and the stand-in for torch."""
        self.nvidia_smi(H100, H100)
        self.cuda()
        self.mpi()
        self.install(monkeypatch, LIBRARY, TORCH)
        monkeypatch.setenv("TENSORRT_LLM_DOUBLE", json.dumps({"gpus": 2}))


def checkpoint(folder: Path, **config: Any) -> Path:
    """A model directory with a tokenizer whose tokens are bytes, and weights that are too few."""
    folder.mkdir(parents=True)
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: token_id for token_id, letter in enumerate(alphabet)}, []))
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {
        "max_position_embeddings": 4096,
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id("<end>"),
        "torch_dtype": "bfloat16",
        **config,
    }
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(1024))
    return folder
