"""Loads a model directory into what the engine's thread works with, and says what it serves."""

import time
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil

import openvino as ov
import structlog

from headrace.models.directory import ModelDirectory, read_json_object
from worker.engine.openvino.block_pool import BlockPool
from worker.engine.openvino.graph import compile_graph
from worker.engine.openvino.guide_compiler import GuideCompiler
from worker.engine.openvino.kernel_cache import KERNEL_CACHE_BYTES
from worker.engine.openvino.memory import StepMemory, resident_bytes, step_memory
from worker.engine.openvino.pool_size import pool_blocks
from worker.engine.openvino.runner import Feed, Runner, kv_layout, logits_width
from worker.engine.openvino.sampler import Sampler
from worker.engine.openvino.scheduler import Scheduler
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.openvino.step_speed import StepSpeed
from worker.engine.seam import ModelInfo

GUIDE_FIELDS = frozenset(
    {
        "guide.json_schema",
        "guide.json_object",
        "guide.regex",
        "guide.grammar",
        "guide.structural_tag",
        "guide.choice",
    }
)
"""Honoured where the model has an end token: a guide allows it, and so ends the answer."""

HONOURED_FIELDS = frozenset(
    {
        "sampling.temperature",
        "sampling.top_p",
        "sampling.top_k",
        "sampling.min_p",
        "sampling.presence_penalty",
        "sampling.frequency_penalty",
        "sampling.repetition_penalty",
        "sampling.logit_bias",
        "sampling.seed",
        "output_prefix_token_ids",
        "stop_token_ids",
        "ignore_eos",
        "min_tokens",
        "logprobs",
        "cache_salt",
        "priority",
    }
)

MAX_LOGPROBS = 20
MAX_OUTPUTS = 128

_EDGE_BYTES = 1 << 20  # of the weights at either end that the fingerprint covers
# Step sizes that OpenVINO has kernels of their own for: the first step of each takes up to 0.4 s.
_WARM_UP_TOKENS = (256, 256, 32, 1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What one thread needs to generate, and what it serves; guides need an end token."""

    info: ModelInfo
    runner: Runner
    sampler: Sampler
    pool: BlockPool
    scheduler: Scheduler
    speed: StepSpeed
    guides: GuideCompiler | None

    @property
    def pool_tokens(self) -> int:
        """Tokens that the whole pool holds."""
        return self.pool.total_blocks * self.info.block_size


def load_model(directory: ModelDirectory, settings: OpenVinoSettings) -> LoadedModel:
    """Read, compile and warm up; takes seconds, so it runs off the loop.

    Raises ServiceError, one sentence, for a model that this engine cannot run.
    """
    begin = time.perf_counter()
    _log.info("model_loading", model=directory.name, numerics=settings.numerics)
    compiled = compile_graph(directory.path, settings)
    _log.info("model_compiled", model=directory.name, seconds=_since(begin))
    layout = kv_layout(compiled)
    num_blocks = pool_blocks(
        settings.kv_cache_bytes,
        layout,
        step=_step_memory(directory, settings, logits_width(compiled)),
        taken_bytes=resident_bytes(),
    )
    vocabulary_size = min(directory.vocabulary_size, logits_width(compiled))
    pool = BlockPool(num_blocks, keeps_prefixes=settings.prefix_cache)
    speed = StepSpeed(settings.target_step_ms / 1000, settings.max_batch_tokens)
    info = _info(directory, settings, layout.block_size, num_blocks, vocabulary_size)
    loaded = LoadedModel(
        info=info,
        runner=Runner(compiled, num_blocks, vocabulary_size),
        sampler=Sampler(vocabulary_size),
        pool=pool,
        scheduler=Scheduler(
            pool,
            speed,
            model=directory.name,
            block_size=layout.block_size,
            max_running=settings.max_num_sequences,
        ),
        speed=speed,
        guides=_guides(directory, settings, info),
    )
    _warm_up(loaded, min(loaded.pool_tokens, settings.max_batch_tokens))
    _log.info("model_ready", model=directory.name, seconds=_since(begin))
    return loaded


def system_fingerprint(directory: ModelDirectory, numerics: str) -> str:
    """Names what may change the text: engine, numerics, weights and tokenizer.

    Of the weights the size and both ends are read, not all: it must not delay the start.
    """
    digest = blake2b(digest_size=6)
    digest.update((directory.path / "config.json").read_bytes())
    weights = directory.path / "openvino_model.bin"
    size = weights.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with weights.open("rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        file.seek(max(size - _EDGE_BYTES, 0))
        digest.update(file.read(_EDGE_BYTES))
    digest.update(directory.tokenizer_fingerprint.encode())
    version = ov.__version__.partition("-")[0]
    return f"openvino-{version}-{numerics}-{digest.hexdigest()}"


def _step_memory(
    directory: ModelDirectory, settings: OpenVinoSettings, num_logits: int
) -> StepMemory:
    """Of this model; a configuration that does not say its sizes counts as one of no width."""
    config = read_json_object(directory.path / "config.json")
    config = config.get("text_config", config)
    sizes = (config.get(name, 0) for name in ("hidden_size", "intermediate_size"))
    return step_memory(
        kernel_bytes=KERNEL_CACHE_BYTES,
        model_width=sum(size for size in sizes if isinstance(size, int)),
        vocabulary_size=num_logits,
        max_tokens=settings.max_batch_tokens,
        max_rows=settings.max_num_sequences,
    )


def _info(
    directory: ModelDirectory,
    settings: OpenVinoSettings,
    block_size: int,
    num_blocks: int,
    vocabulary_size: int,
) -> ModelInfo:
    end_token_ids = frozenset(i for i in directory.end_token_ids if i < vocabulary_size)
    return ModelInfo(
        model=directory.name,
        engine="openvino",
        context_length=min(directory.context_length, num_blocks * block_size),
        block_size=block_size,
        vocabulary_size=vocabulary_size,
        end_token_ids=end_token_ids,
        tokenizer_fingerprint=directory.tokenizer_fingerprint,
        honoured_fields=HONOURED_FIELDS | GUIDE_FIELDS if end_token_ids else HONOURED_FIELDS,
        max_logprobs=MAX_LOGPROBS,
        max_outputs=min(MAX_OUTPUTS, settings.max_num_sequences + settings.max_queued_outputs),
        numerics=settings.numerics,
        system_fingerprint=system_fingerprint(directory, settings.numerics),
    )


def _guides(
    directory: ModelDirectory, settings: OpenVinoSettings, info: ModelInfo
) -> GuideCompiler | None:
    if not info.end_token_ids:
        return None
    return GuideCompiler(
        (directory.path / "tokenizer.json").read_text(encoding="utf-8"),
        info.end_token_ids,
        info.vocabulary_size,
        max_bytes=settings.guide_max_bytes,
    )


def _warm_up(loaded: LoadedModel, most_tokens: int) -> None:
    """Let the kernels be prepared before the first request, and learn the price of a token.

    It writes into blocks that the pool calls free; the first real use overwrites them.
    """
    runner = loaded.runner
    prices = []
    for num_tokens in (min(tokens, most_tokens) for tokens in _WARM_UP_TOKENS):
        block_ids = range(ceil(num_tokens / loaded.info.block_size))
        begin = time.perf_counter()
        runner.run([Feed([0] * num_tokens, 0, block_ids, is_sampled=True)])
        prices.append((num_tokens, time.perf_counter() - begin))
    # The second step: prepared, and large enough to tell.
    loaded.speed.observe(0, *prices[1])
    runner.steps = runner.tokens_fed = 0


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 2)
