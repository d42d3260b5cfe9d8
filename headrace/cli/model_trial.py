"""Serves one step of a model directory with the services' own code; a program of its own.

`python -m headrace.cli.model_trial FOLDER`, run as a child process: it loads the engine's libraries
and the weights. What does not load here would not start a service either.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.child_program import refusing
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.models.refusal import UnservableError
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError


def try_model(folder: Path) -> None:
    """Render a conversation and compute a step. Raises UnservableError, one sentence."""
    try:
        directory = open_model_directory(folder)
        prompt = _prompt(directory)
        _compute(directory, prompt)
    except (ServiceError, StartError) as error:
        raise UnservableError(str(error)) from error


def _prompt(directory: ModelDirectory) -> list[int]:
    # Only the child may load the services and their libraries.
    from tokenizer_svc.conversation import Conversation  # noqa: PLC0415 (see above)
    from tokenizer_svc.registry import TokenizerModel  # noqa: PLC0415 (likewise)
    from tokenizer_svc.settings import TokenizerSettings  # noqa: PLC0415 (likewise)

    model = TokenizerModel.load(directory, TokenizerSettings())
    hi = Conversation([{"role": "user", "content": "Hi"}])
    ids = model.prompt_renderer().render(hi)
    num_known = len(model.vocabulary.token_bytes)
    if num_known > directory.vocabulary_size:
        raise UnservableError(
            f"the tokenizer has ids up to {num_known - 1}, the model's vocab_size is "
            f"{directory.vocabulary_size}: they are not of the same model"
        )
    return ids


def _compute(directory: ModelDirectory, prompt: list[int]) -> None:
    from worker.engine.openvino.graph import compile_graph  # noqa: PLC0415 (as above)
    from worker.engine.openvino.runner import (  # noqa: PLC0415 (likewise)
        Feed,
        Runner,
        kv_layout,
        logits_width,
    )
    from worker.engine.openvino.settings import OpenVinoSettings  # noqa: PLC0415 (likewise)

    compiled = compile_graph(directory.path, OpenVinoSettings())
    width = logits_width(compiled)
    if width < directory.vocabulary_size:
        raise UnservableError(
            f"config.json's vocab_size is {directory.vocabulary_size}, the model gives {width} "
            "logits: they are not of the same model"
        )
    num_blocks = -(-len(prompt) // kv_layout(compiled).block_size)
    runner = Runner(compiled, num_blocks, directory.vocabulary_size)
    logits: Any = runner.run([Feed(prompt, 0, range(num_blocks), is_sampled=True)])
    if not np.isfinite(logits).all():
        raise UnservableError("the model's logits are not finite numbers: its weights are damaged")


if __name__ == "__main__":
    sys.exit(refusing(lambda: try_model(Path(sys.argv[1]))))
