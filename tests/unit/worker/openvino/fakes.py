"""A model of a few tokens that computes nothing, and what the engine's parts need around it."""

import threading
from collections.abc import Sequence

import numpy as np

from headrace.models.directory import ModelDirectory
from tests.support.event_sinks import CollectingSink
from tests.support.models import fake_model
from worker.engine.openvino.block_pool import BlockPool
from worker.engine.openvino.model import (
    HONOURED_FIELDS,
    MAX_LOGPROBS,
    MAX_OUTPUTS,
    LoadedModel,
)
from worker.engine.openvino.runner import Feed
from worker.engine.openvino.sampler import Sampler
from worker.engine.openvino.scheduler import Scheduler
from worker.engine.openvino.sequence import Sequence as OutputSequence
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.openvino.step_speed import StepSpeed
from worker.engine.seam import EngineRequest, ModelInfo, SamplingParams

BLOCK_SIZE = 4
VOCABULARY_SIZE = 64
END_TOKEN = 2
GREEDY = SamplingParams(temperature=0)


class StepGate:
    """Lets a test hold the engine's thread inside a step, and let it go step by step."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._permits: int | None = None
        self._is_held = False

    def pass_through(self) -> None:
        """The thread's side: return when the step may be computed."""
        with self._changed:
            self._is_held = self._permits == 0
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._permits != 0, 30)
            if self._permits is not None:
                self._permits -= 1

    def close(self) -> None:
        """Hold the next step, and each one after it."""
        with self._changed:
            self._permits = 0

    def let_one_pass(self) -> None:
        """Let the step that is held be computed."""
        with self._changed:
            self._permits, self._is_held = 1, False
            self._changed.notify_all()

    def open(self) -> None:
        """Hold nothing any more."""
        with self._changed:
            self._permits, self._is_held = None, False
            self._changed.notify_all()

    def wait_until_held(self) -> None:
        """Return when the thread is held inside a step."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_held, 30)


class SuccessorRunner:
    """Finds the last token plus one most probable. A closed `gate` holds the next step."""

    def __init__(self) -> None:
        self.tokens_fed = 0
        self.steps = 0
        self.gate = StepGate()
        self.failure: Exception | None = None
        self.bad_token: int | None = None
        self.is_closed = False
        self.copied: list[tuple[int, int]] = []

    def copy_block(self, source: int, target: int) -> None:
        self.copied.append((source, target))

    def run(self, feeds: Sequence[Feed]) -> np.ndarray:
        self.gate.pass_through()
        if self.failure is not None:
            raise self.failure
        self.steps += 1
        self.tokens_fed += sum(len(feed.token_ids) for feed in feeds)
        last = [feed.token_ids[-1] for feed in feeds if feed.is_sampled]
        logits = np.zeros((len(last), VOCABULARY_SIZE), np.float32)
        logits[range(len(last)), [(token + 1) % VOCABULARY_SIZE for token in last]] = 50.0
        for row, token in enumerate(last):
            if token == self.bad_token:
                logits[row, 7] = np.nan
        return logits

    def close(self) -> None:
        self.is_closed = True


def fake_loaded_model(
    runner: SuccessorRunner, settings: OpenVinoSettings, num_blocks: int = 64
) -> LoadedModel:
    """What load_model would give, with blocks of 4 tokens and a vocabulary of 64."""
    pool = BlockPool(num_blocks, keeps_prefixes=settings.prefix_cache)
    speed = StepSpeed(settings.target_step_ms / 1000, settings.max_batch_tokens)
    scheduler = Scheduler(
        pool,
        speed,
        model="tiny",
        block_size=BLOCK_SIZE,
        max_running=settings.max_num_sequences,
    )
    info = ModelInfo(
        model="tiny",
        engine="openvino",
        context_length=num_blocks * BLOCK_SIZE,
        block_size=BLOCK_SIZE,
        vocabulary_size=VOCABULARY_SIZE,
        end_token_ids=frozenset({END_TOKEN}),
        tokenizer_fingerprint="f" * 32,
        honoured_fields=HONOURED_FIELDS,
        max_logprobs=MAX_LOGPROBS,
        max_outputs=MAX_OUTPUTS,
        numerics="reproducible",
        system_fingerprint="tiny",
    )
    return LoadedModel(info, runner, Sampler(VOCABULARY_SIZE), pool, scheduler, speed, None)


class FakeLoader:
    """A loader for OpenVinoEngine; keeps what it made."""

    def __init__(self, num_blocks: int = 64) -> None:
        self.runner = SuccessorRunner()
        self._num_blocks = num_blocks

    def __call__(self, _directory: ModelDirectory, settings: OpenVinoSettings) -> LoadedModel:
        return fake_loaded_model(self.runner, settings, self._num_blocks)


def make_request(
    key: int = 0, prompt: Sequence[int] = (10, 11, 12), max_tokens: int = 4, **fields: object
) -> EngineRequest:
    """A greedy request that ignores end tokens, unless told otherwise."""
    values = {"sampling": GREEDY, "ignore_eos": True, **fields}
    return EngineRequest(f"request-{key}", key, prompt, max_tokens, **values)


def make_sequence(request: EngineRequest, arrival: int = 0) -> OutputSequence:
    """A sequence that arrived in second `arrival`; a point of priority is worth 30 seconds.

    It leads the request's other outputs.
    """
    sink = CollectingSink()
    leader, *followers = (
        OutputSequence(
            request=request,
            sink=sink,
            key=key,
            seed=0,
            rank=(arrival - 30.0 * request.priority, arrival),
            submitted_seconds=float(arrival),
            end_token_ids=frozenset({END_TOKEN}),
        )
        for key in request.keys
    )
    leader.lead(followers)
    return leader


__all__ = [
    "BLOCK_SIZE",
    "END_TOKEN",
    "GREEDY",
    "FakeLoader",
    "SuccessorRunner",
    "fake_loaded_model",
    "fake_model",
    "make_request",
    "make_sequence",
]
