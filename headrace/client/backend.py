"""All workers and tokenizers behind one caller: connections, placement, rendering, generating.

Token frames of every worker go to the tokenizers whole: handles are minted by one counter, so that
they mean the same on every stream and nothing is renumbered.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar

from headrace.client.answers import AnswerConsumer, GenerationOptions, RenderedPrompt, ServedModel
from headrace.client.conversation import function_schemas, render_request
from headrace.client.figures import ClientFigures
from headrace.client.generation import RunningGeneration
from headrace.client.peer_links import PeerLinks
from headrace.client.prompt_request import PromptRequest
from headrace.client.render_spans import RenderSpans
from headrace.client.resolver import NameLookup
from headrace.client.tokenizer_link import TokenizerLink
from headrace.client.worker_link import WorkerLink
from headrace.common.v1 import errors_pb2
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import MAX_PENDING_TOKENS, FrameTiming
from headrace.runtime.identity import Identity
from headrace.telemetry.spans import NoTracing, Tracing
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.tokenizer.v1.render_pb2 import RenderRequest, RenderResponse
from headrace.worker.v1.generation_pb2 import OutputLogprobs
from headrace.worker.v1.model_pb2 import GetModelResponse


class _Loaded(Protocol):
    @property
    def num_outputs(self) -> int: ...


LoadedT = TypeVar("LoadedT", bound=_Loaded)

_RETRIED_RENDER = frozenset(
    {
        errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_WORKER_LOST,
    }
)


class GrpcChatBackend:
    """Implements `ChatBackend` over gRPC; addresses are host:port, each address of a name a peer.

    `start` begins to connect and returns at once; `stop` ends every stream.
    """

    def __init__(
        self,
        worker_addresses: Sequence[str],
        tokenizer_addresses: Sequence[str],
        timing: FrameTiming | None = None,
        credentials: PeerCredentials | None = None,
        tracing: Tracing | None = None,
        lookup: NameLookup | None = None,
    ) -> None:
        """`lookup`: how names in addresses are followed."""
        timing, lookup = timing or FrameTiming(), lookup or NameLookup()
        credentials = credentials or PeerCredentials()
        self.tracing = tracing or NoTracing()
        """Part of Placement."""
        self.retries: dict[str, int] = {}
        """Requests that were tried once more, by the reason's label."""
        identity = Identity()

        def open_worker(address: str, name: str | None) -> WorkerLink:
            shown = credentials if name is None else credentials.named(name)
            return WorkerLink(address, identity, timing, self, shown)

        def open_tokenizer(address: str, name: str | None) -> TokenizerLink:
            shown = credentials if name is None else credentials.named(name)
            return TokenizerLink(address, identity, timing, shown)

        self._worker_peers = PeerLinks(worker_addresses, open_worker, lookup)
        self._tokenizer_peers = PeerLinks(tokenizer_addresses, open_tokenizer, lookup)
        self._next_handle = 1
        self._routes: dict[int, int] = {}
        """Of outputs that go on elsewhere: the handle at the worker, and that at the tokenizer."""
        self._next_pick = 0
        self._created = int(time.time())

    async def start(self) -> None:
        """Begin to connect to every peer, for as long as the backend lives."""
        self._worker_peers.start()
        self._tokenizer_peers.start()

    async def stop(self) -> None:
        """End every stream and close every channel."""
        await asyncio.gather(self._worker_peers.stop(), self._tokenizer_peers.stop())

    @property
    def _workers(self) -> tuple[WorkerLink, ...]:
        return self._worker_peers.open

    @property
    def _tokenizers(self) -> tuple[TokenizerLink, ...]:
        return self._tokenizer_peers.open

    @property
    def _links(self) -> tuple[WorkerLink | TokenizerLink, ...]:
        return (*self._workers, *self._tokenizers)

    async def ready(self) -> None:
        """Return when some model can be asked for.

        Raises ServiceError when a peer refuses the key, and when every peer is found and connected
        and they have no model in common.
        """
        all_peers = (self._worker_peers, self._tokenizer_peers)
        while not self.is_ready:
            away = self._away()
            refusing = next((link for link in away if link.refused.is_set()), None)
            if refusing is not None:
                raise ServiceError(
                    errors_pb2.ERROR_REASON_INVALID_API_KEY,
                    f"{refusing.kind} {refusing.address} does not know the API key",
                )
            events = [event for link in away for event in (link.connected, link.refused)]
            if not away and all(peers.is_complete for peers in all_peers):
                raise ServiceError(
                    errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER,
                    "the workers and tokenizers have no model and tokenizer in common",
                )
            events += [peers.changed for peers in all_peers]
            waits = [asyncio.ensure_future(event.wait()) for event in events]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _away(self) -> list[WorkerLink | TokenizerLink]:
        return [link for link in self._links if not link.connected.is_set()]

    @property
    def is_ready(self) -> bool:
        """Some model has a worker and a tokenizer that take requests."""
        return any(
            self._tokenizers_of(_tokenizer_names(info), info.tokenizer_fingerprint)
            for worker in self._workers
            if worker.is_serving
            for info in worker.models.values()
        )

    @property
    def figures(self) -> ClientFigures:
        """What has been counted since the start; on any thread."""
        peers = {
            WorkerLink.kind: self._worker_peers.figures,
            TokenizerLink.kind: self._tokenizer_peers.figures,
        }
        return ClientFigures(peers, dict(self.retries))

    @property
    def models(self) -> Sequence[ServedModel]:
        """Every model that a worker serves and a tokenizer knows, connected now or before.

        Base models first, then adapters, each by name.
        """
        known = {name for link in self._tokenizers for name in link.models}
        found = {
            name: info
            for link in self._workers
            for name, info in link.models.items()
            if not known.isdisjoint(_tokenizer_names(info))
        }
        by_name = sorted(found.values(), key=lambda info: (bool(info.base_model), info.model))
        return [self._served(info) for info in by_name]

    def _served(self, info: GetModelResponse) -> ServedModel:
        return ServedModel(
            name=info.model,
            context_length=info.context_length,
            honoured_fields=frozenset(info.honoured_fields),
            max_outputs=info.max_outputs,
            max_logprobs=info.max_logprobs,
            system_fingerprint=info.system_fingerprint,
            created=self._created,
        )

    async def render(
        self,
        request: PromptRequest,
        *,
        timeout_seconds: float,
        trace: TraceContext = NO_TRACE,
        request_id: str = "",
    ) -> RenderedPrompt:
        """Render a conversation; a tokenizer that is lost meanwhile is replaced once."""
        model, wire = request.model, render_request(request)
        infos = [link.models[model] for link in self._workers if model in link.models]
        if infos:
            # A prompt that fills the context is the worker's to refuse: it names both numbers.
            wire.max_prompt_tokens = max(info.context_length for info in infos)
        names = [model, *(info.base_model for info in infos if info.base_model)]
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        spans = RenderSpans(self.tracing, trace, request_id, deadline)
        tokenizer = self._pick(self._tokenizers_of(names, None), _no_tokenizer(model))
        try:
            response = await _render_at(tokenizer, wire, names, spans, 1)
        except ServiceError as error:
            if error.reason not in _RETRIED_RENDER:
                raise
            others = [link for link in self._tokenizers_of(names, None) if link is not tokenizer]
            if not others:
                raise
            self.count_retry(error)
            other = self._pick(others, _no_tokenizer(model))
            response = await _render_at(other, wire, names, spans, 2)
        return RenderedPrompt(
            model=model,
            token_ids=response.prompt_token_ids,
            decoder=response.decoder,
            guide=response.guide if response.HasField("guide") else None,
            functions=function_schemas(request),
        )

    def generate(
        self, prompt: RenderedPrompt, options: GenerationOptions, consumer: AnswerConsumer
    ) -> RunningGeneration:
        """Start generating; raises ServiceError when nothing could be started."""
        generation = RunningGeneration(self, prompt, options, consumer)
        generation.start()
        return generation

    def place_worker(self, prompt: RenderedPrompt, avoided: frozenset[WorkerLink]) -> WorkerLink:
        """The worker with the fewest outputs in flight."""
        fingerprint = prompt.decoder.tokenizer_fingerprint
        workers = [
            link
            for link in self._workers
            if link.is_serving
            and link not in avoided
            and prompt.model in link.models
            and link.models[prompt.model].tokenizer_fingerprint == fingerprint
        ]
        return self._pick(workers, f"No worker of the model `{prompt.model}` is available.")

    def place_tokenizer(self, prompt: RenderedPrompt) -> TokenizerLink:
        """The tokenizer with the fewest outputs."""
        names = [prompt.decoder.model or prompt.model]
        tokenizers = self._tokenizers_of(names, prompt.decoder.tokenizer_fingerprint)
        return self._pick(tokenizers, _no_tokenizer(prompt.model))

    def route(self, worker_handle: int, handle: int) -> None:
        """Tokens of an output at its worker are from now on those of `handle` at its tokenizer."""
        self._routes[worker_handle] = handle

    def unroute(self, worker_handle: int) -> None:
        """No tokens of the output are to come."""
        self._routes.pop(worker_handle, None)

    def count_retry(self, error: ServiceError) -> None:
        """A request is tried once more because of `error`."""
        self.retries[error.label] = self.retries.get(error.label, 0) + 1

    def next_handles(self, count: int) -> int:
        """The first of `count` handles in a row, above all before."""
        first = self._next_handle
        self._next_handle += count
        return first

    def feed(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        logprobs: Sequence[OutputLogprobs] = (),
    ) -> None:
        """Hand a worker's token entries on; whole, where one tokenizer serves all."""
        if self._routes and not self._routes.keys().isdisjoint(handles):
            handles = [self._routes.get(handle, handle) for handle in handles]
            for entry in logprobs:
                entry.handle = self._routes.get(entry.handle, entry.handle)
        serving = [link for link in self._tokenizers if link.num_outputs]
        if len(serving) == 1:
            link = serving[0]
            if link.pending_tokens > MAX_PENDING_TOKENS:
                _refuse(link, handles)
            else:
                link.feed(handles, counts, token_ids, logprobs)
            return
        for link in serving:
            _feed_part(link, handles, counts, token_ids, logprobs)

    def _tokenizers_of(self, names: Sequence[str], fingerprint: str | None) -> list[TokenizerLink]:
        """Those that know a model by one of its names."""
        return [
            link
            for link in self._tokenizers
            if link.is_serving
            and any(
                fingerprint in (None, link.models[name].tokenizer_fingerprint)
                for name in names
                if name in link.models
            )
        ]

    def _pick(self, links: Sequence[LoadedT], otherwise: str) -> LoadedT:
        """The link with the fewest outputs; equals take turns."""
        if not links:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, otherwise, retry_after_seconds=1
            )
        self._next_pick += 1
        turn = self._next_pick % len(links)
        return min((*links[turn:], *links[:turn]), key=lambda link: link.num_outputs)


def _tokenizer_names(info: GetModelResponse) -> list[str]:
    """The names by which a tokenizer may know a served model: an adapter also by its base's."""
    return [info.model, info.base_model] if info.base_model else [info.model]


async def _render_at(
    tokenizer: TokenizerLink,
    request: RenderRequest,
    names: Sequence[str],
    spans: RenderSpans,
    number: int,
) -> RenderResponse:
    """A try, counted from 1: `request` is asked for by the first of `names` that is known there."""
    with spans.attempt(tokenizer.address, number) as metadata:
        request.model = _known_name(names, tokenizer)
        remaining = max(0.001, spans.deadline - asyncio.get_running_loop().time())
        return await tokenizer.render(request, timeout_seconds=remaining, metadata=metadata)


def _known_name(names: Sequence[str], tokenizer: TokenizerLink) -> str:
    """The first of the model's names that this tokenizer knows: an adapter's own goes first."""
    return next((name for name in names if name in tokenizer.models), names[0])


def _no_tokenizer(model: str) -> str:
    return f"No tokenizer of the model `{model}` is available."


def _feed_part(
    link: TokenizerLink,
    handles: Sequence[int],
    counts: Sequence[int],
    token_ids: Sequence[int],
    logprobs: Sequence[OutputLogprobs],
) -> None:
    """Feed the entries whose outputs are open on `link`."""
    own_handles: list[int] = []
    own_counts: list[int] = []
    own_ids: list[int] = []
    position = 0
    for handle, count in zip(handles, counts, strict=True):
        if link.has(handle):
            own_handles.append(handle)
            own_counts.append(count)
            own_ids.extend(token_ids[position : position + count])
        position += count
    if link.pending_tokens > MAX_PENDING_TOKENS:
        _refuse(link, own_handles)
    elif own_handles:
        link.feed(own_handles, own_counts, own_ids, logprobs)


def _refuse(link: TokenizerLink, handles: Sequence[int]) -> None:
    """End single requests: the tokenizer takes no data, and what waits for it is bounded."""
    failure = errors_pb2.Failure(
        reason=errors_pb2.ERROR_REASON_OVERLOADED,
        message="The tokenizer does not keep up; the answer was ended.",
    )
    for handle in list(handles):
        output = link.output(handle)
        if output is not None:
            output.on_text_failure(failure)
