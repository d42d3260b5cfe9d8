"""The seam between the servicer and an engine: four verbs, three properties, one sink.

An engine is started once, takes requests, and calls each request's sink once per iteration with all
events of that sink's outputs, on the event loop of `start`. An engine that computes on a thread of
its own hops to the loop itself, once per iteration. Outputs are named by (sink, key); keys are the
caller's and are unique within a sink.

Rules, the same for every engine (tests/contract/engine holds them to it):
- per key: `StartedEvent` before the first token, then tokens, then exactly one `EndedEvent`;
  nothing after it;
- an end token or stop token id is the last id of its output's tokens, in the same batch as its
  `EndedEvent`, and named there; the engine puts it back where its backend trimmed it;
- it notes in a request's `progress` when an output is first fed, has its first token and ends by
  itself, and how many tokens there are; an end with an error is none of these;
- after `abort` an engine may stay silent for that key: nobody waits for it, and events that still
  come are dropped by the servicer. Its blocks are free after the iteration that is then running;
- `submit` returns at once; it raises ServiceError for what it can refuse at once (OVERLOADED,
  CONTEXT_LENGTH_EXCEEDED for a request that the whole pool cannot hold). What takes time to find
  out, such as a guide that cannot be expressed, is each output's EndedEvent;
- an output with a guide ends with `stop` at an end token that the guide allows, or its length cuts
  it; where a guide allows nothing but the end, it ends even before `min_tokens`;
- an engine that can never go on ends every output with an error, refuses what is submitted, and
  only then lets `failed` return: the process ends, and its supervisor starts a new one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from headrace.common.v1.finish_pb2 import FinishReason
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import NO_TRACE, TraceContext


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are drawn; defaults are neutral. Validated by worker.request_mapping."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def is_greedy(self) -> bool:
        """No draw is needed: temperature, top_p or top_k leave only the most probable token."""
        return self.temperature == 0 or self.top_p == 0 or self.top_k == 1


GuideKind = Literal["json_schema", "json_object", "regex", "grammar", "structural_tag", "choice"]


@dataclass(frozen=True, slots=True)
class Guide:
    """A restriction on the text of an output, as in protos: Guide.

    `text` is what the kind says: for choice a JSON array of the alternatives, for json_object
    nothing.
    """

    kind: GuideKind
    text: str = ""

    @property
    def param(self) -> str:
        """The request's field, for refusals."""
        return f"guide.{self.kind}"


@dataclass(slots=True)
class RequestProgress:
    """How far a request has come: its engine alone writes it, from whatever thread, as it happens.

    Times in seconds of `time.monotonic`; None = not yet. Outputs share one: of the times until a
    token comes the first output's is kept, of ends the last one's.
    """

    fed_at: float | None = None
    """When it was first fed to the model."""
    first_token_at: float | None = None
    last_token_at: float | None = None
    """When the last of the outputs ended that ended by themselves."""
    num_output_tokens: int = 0
    """Tokens generated so far, of all outputs, those that were aborted since included."""

    def fed(self, now: float) -> None:
        """An output is fed to the model."""
        if self.fed_at is None:
            self.fed_at = now

    def first_token(self, now: float) -> None:
        """An output has its first token."""
        if self.first_token_at is None:
            self.first_token_at = now


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A validated request. Ids are below the vocabulary's size; `max_tokens` fits the context.

    `first_key` names output 0, the others follow in a row. `output_prefix_token_ids` count towards
    `max_tokens` and `min_tokens` and are not sent again. `adapter` is one of ModelInfo.adapters;
    empty = the base model.
    """

    request_id: str
    first_key: int
    prompt_token_ids: Sequence[int]
    max_tokens: int
    output_prefix_token_ids: Sequence[int] = ()
    output_index: int = 0
    """Index of output 0 for its draws: that in the request which this one continues."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    min_tokens: int = 0
    n: int = 1
    logprobs: int | None = None
    guide: Guide | None = None
    cache_salt: str = ""
    priority: int = 0
    adapter: str = ""
    trace: TraceContext = NO_TRACE
    """What an engine with a tracing of its own hands on: the worker's own span."""
    progress: RequestProgress = field(default_factory=RequestProgress, compare=False)
    """What the engine notes, for whoever reports on the request."""

    @property
    def keys(self) -> range:
        """The keys of all outputs."""
        return range(self.first_key, self.first_key + self.n)

    @property
    def num_given_tokens(self) -> int:
        """What there is to compute before the first new token: the prompt and the prefix."""
        return len(self.prompt_token_ids) + len(self.output_prefix_token_ids)


@dataclass(frozen=True, slots=True)
class StartedEvent:
    """An output was taken up. Times in milliseconds, as in protos: Started.

    Each output of a request has its own `cached_prompt_tokens`: what of the prompt was not computed
    for it, be it from the cache or from another output that it forked from.
    """

    key: int
    prompt_tokens: int
    cached_prompt_tokens: int
    queue_ms: int
    prefill_ms: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log probability of one drawn token, and its alternatives, most probable first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class EndedEvent:
    """An output's end: `finish_reason` or `error`, never both.

    `num_output_tokens` counts what was generated here, without the request's output prefix.
    """

    key: int
    finish_reason: "FinishReason.ValueType | None" = None
    error: ServiceError | None = None
    stop_token_id: int | None = None
    decode_ms: int = 0
    num_output_tokens: int = 0


@dataclass(slots=True)
class EngineEvents:
    """What one iteration did for one sink; parallel arrays, no object per token.

    `keys` and `counts` are equally long; `counts` add up to the length of `token_ids`; a key occurs
    at most once. `logprobs` holds, for keys that asked, one entry a token of this batch.
    """

    started: list[StartedEvent] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    ended: list[EndedEvent] = field(default_factory=list)


class EventSink(Protocol):
    """Takes the events of its outputs; never blocks, never raises."""

    def on_events(self, events: EngineEvents) -> None:
        """Take what one iteration did."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an engine serves and honours; the source of GetModelResponse.

    `honoured_fields` are dotted names of GenerationRequest's optional fields; `adapters` are served
    names of LoRA adapters on `model`, none of them its own.
    """

    model: str
    engine: str
    context_length: int
    block_size: int
    vocabulary_size: int
    end_token_ids: frozenset[int]
    tokenizer_fingerprint: str
    honoured_fields: frozenset[str]
    max_logprobs: int
    max_outputs: int
    numerics: str
    system_fingerprint: str
    adapters: tuple[str, ...] = ()

    @property
    def served_models(self) -> tuple[str, ...]:
        """Every name that a request may choose, the base model's first."""
        return (self.model, *self.adapters)

    def fingerprint_of(self, name: str) -> str:
        """The system fingerprint of a served model: another adapter writes another text."""
        is_adapter = name in self.adapters
        return f"{self.system_fingerprint}_{name}" if is_adapter else self.system_fingerprint


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is; blocks add up: free + cached + referenced = total.

    Evictions, preemptions and prefilled tokens are counted since the start; `evicted_blocks` held a
    prefix that was given up for another request.
    """

    queued_outputs: int = 0
    total_blocks: int = 0
    free_blocks: int = 0
    cached_blocks: int = 0
    referenced_blocks: int = 0
    evicted_blocks: int = 0
    preemptions: int = 0
    prefilled_tokens: int = 0


class Engine(Protocol):
    """An engine; see the module's docstring for the rules."""

    @property
    def info(self) -> ModelInfo:
        """What it serves; valid after `start`."""

    @property
    def load(self) -> EngineLoad:
        """How busy it is now; cheap, may be read at any time and from any thread."""

    async def start(self) -> None:
        """Load the model and begin; returns when requests can be taken. Raises ServiceError."""

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        """Queue a request. Raises ServiceError when it is refused at once."""

    def abort(self, sink: EventSink, keys: Sequence[int]) -> None:
        """End outputs as soon as possible; unknown or ended keys are ignored."""

    async def failed(self) -> ServiceError:
        """Wait until the engine has failed for good, and say why; else wait for ever."""

    async def stop(self) -> None:
        """End everything that runs with an error, and free all resources."""
