"""One edge's shared stream on the tokenizer: its outputs, and the frames to and from it."""

from collections.abc import Iterable
from time import perf_counter

from headrace.common.v1 import errors_pb2, finish_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameCall, FrameStream
from headrace.rpc.limits import MAX_PENDING_TOKENS, FrameTiming
from headrace.runtime.identity import Identity
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeOpen,
    DetokenizeRequest,
    DetokenizeResponse,
    TokenAlternatives,
)
from tokenizer_svc.activity import Activity
from tokenizer_svc.call_gate import StreamCaller
from tokenizer_svc.detokenize_outbox import DetokenizeOutbox
from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.formats.catalog import TEXT
from tokenizer_svc.formats.seam import ToolTypes
from tokenizer_svc.formatted_detokenizer import FormatRules
from tokenizer_svc.output_log import OutputLog
from tokenizer_svc.outputs import Answers, OutputTable
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.request_mapping import stop_strings, tool_types
from tokenizer_svc.rules_cache import RulesCache
from tokenizer_svc.settings import LimitSettings
from tokenizer_svc.spelling_detokenizer import split_alternatives
from tokenizer_svc.vocabulary import Vocabulary


class OutputOpener:
    """Turns what an edge says of an output into the rules by which it is decoded."""

    def __init__(self, registry: ModelRegistry, limits: LimitSettings) -> None:
        self._registry = registry
        self._rules = RulesCache(limits.max_shared_rules)
        self._vocabularies: dict[tuple[str, frozenset[str]], Vocabulary] = {}
        self.limits = limits

    def open(self, request: DetokenizeOpen, outputs: OutputTable, answers: Answers) -> None:
        """Open the output. Raises ServiceError where it is refused."""
        if len(outputs) >= self.limits.max_open_outputs:
            message = f"{len(outputs)} outputs are open on this stream, as many as are allowed."
            raise ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, message)
        model = self._registry.decoding(request.decoder)
        types = tool_types(request.functions, self.limits)
        prior, released = request.prior_token_ids[:], request.released_tokens
        given = request.prior_alternatives
        if request.decoder.output_format != TEXT:
            alternatives = split_alternatives(given.counts, given.token_ids)
            format_rules = self._format_rules(request, model, types)
            whole_prior = (prior, released, alternatives)
            outputs.open_formatted(request.handle, format_rules, whole_prior, answers)
            return
        rules = self._rules.get(
            model.directory.name,
            model.vocabulary,
            stop_strings(request, self.limits),
            tuple(request.decoder.stop_token_ids),
        )
        if request.token_bytes:
            alternatives = split_alternatives(given.counts, given.token_ids)
            outputs.open_spelling(request.handle, rules, (prior, released, alternatives), answers)
        else:
            outputs.open(request.handle, rules, prior, released, answers)

    def _format_rules(
        self, request: DetokenizeOpen, model: TokenizerModel, types: ToolTypes
    ) -> FormatRules:
        decoder = request.decoder
        output_format = self._registry.find_format(decoder.output_format)
        name, markers = model.directory.name, output_format.markers
        vocabulary = self._vocabularies.get((name, markers))
        if vocabulary is None:
            vocabulary = self._vocabularies[name, markers] = model.vocabulary.showing(markers)
        ends = tuple(decoder.stop_token_ids)
        return FormatRules(
            # Apart from those of plain text: what is harmless there may be a marker here.
            decoding=self._rules.get(f"{name}\n{' '.join(sorted(markers))}", vocabulary, (), ends),
            stops=DecodingRules(vocabulary, stop_strings(request, self.limits)),
            output_format=output_format,
            tool_types=types,
            begins_in_reasoning=decoder.begins_in_reasoning,
            spells=request.token_bytes,
        )


class DetokenizeSession:
    """Everything of one stream; when it ends, all its states are gone."""

    def __init__(
        self,
        call: FrameCall[DetokenizeRequest, DetokenizeResponse],
        opener: OutputOpener,
        activity: Activity,
        identity: Identity,
        timing: FrameTiming,
        caller: StreamCaller | None = None,
    ) -> None:
        """`caller` opened the stream; without one it may have everything decoded."""
        self._opener = opener
        self._caller = caller or StreamCaller()
        self._is_expired = False
        self._activity = activity
        self._log = OutputLog(activity.ended_outputs)
        self._outputs = OutputTable(self._log.ended)
        self._outbox = DetokenizeOutbox()
        self._stream: FrameStream[DetokenizeRequest, DetokenizeResponse] = FrameStream(
            call, self._outbox, self._on_frame, identity, peer="edge", timing=timing
        )
        self._stream.counts = activity.frames

    async def run(self) -> None:
        """Serve until the stream ends."""
        try:
            await self._stream.run()
        finally:
            num_open = len(self._outputs)
            self._log.lost(self._outputs.lose())
            self._activity.add_outputs(-num_open)

    def drain(self) -> None:
        """Take nothing new, and say so."""
        self._stream.drain()

    def finish(self) -> None:
        """End the stream once everything said on it is out."""
        self._stream.finish()

    def _on_frame(self, frame: DetokenizeRequest) -> None:
        began = perf_counter()
        outputs, answers = self._outputs, Answers()
        num_open, num_strays = len(outputs), outputs.stray_entries
        try:
            for opened in frame.opens:
                self._open(opened, answers)
            # Lists, since a repeated field costs a call for each element read.
            token_ids, alternatives = frame.token_ids[:], frame.alternatives
            num_tokens = len(token_ids)
            self._activity.fed_tokens += num_tokens
            if alternatives:
                num_tokens += self._offer(alternatives)
            self._feed(frame.handles[:], frame.counts[:], token_ids, answers)
            if alternatives:
                outputs.check_offers(entry.handle for entry in alternatives)
            for closed in frame.closes:
                self._close(closed, answers)
        finally:
            self._activity.add_outputs(len(outputs) - num_open)
            self._activity.stray_entries += outputs.stray_entries - num_strays
        self._outbox.add(answers, num_tokens)
        if not self._outbox.is_empty:
            self._stream.wake()
        if self._is_expired and not len(outputs):
            self.finish()
        self._activity.detokenize_seconds += perf_counter() - began

    def _open(self, request: DetokenizeOpen, answers: Answers) -> None:
        self._outputs.claim(request.handle)
        self._log.opened(request)
        try:
            self._activity.require_open()
            self._check_key(request)
            self._opener.open(request, self._outputs, answers)
        except ServiceError as error:
            answers.failures.append((request.handle, error))
            self._activity.refusals[error.label, self._caller.tenant_class] += 1
            self._log.ended(request.handle, "failed", error=error)

    def _check_key(self, request: DetokenizeOpen) -> None:
        try:
            self._caller.check(request.decoder.model)
        except ServiceError as error:
            if error.reason == errors_pb2.ERROR_REASON_DRAINING and not self._is_expired:
                # Its key was removed: what is open may end, and the peer comes back with another.
                self._is_expired = True
                self.drain()
            raise

    def _offer(self, alternatives: Iterable[TokenAlternatives]) -> int:
        """Take what comes with the frame's tokens; returns how many there are."""
        num_offered = 0
        for entry in alternatives:
            self._outputs.offer(entry.handle, entry.counts[:], entry.token_ids[:])
            num_offered += len(entry.token_ids)
        return num_offered

    def _feed(
        self, handles: list[int], counts: list[int], token_ids: list[int], answers: Answers
    ) -> None:
        if self._outbox.pending_tokens <= MAX_PENDING_TOKENS:
            self._outputs.feed(handles, counts, token_ids, answers)
            return
        # The edge takes no frames: single outputs end, the stream lives.
        message = f"{self._outbox.pending_tokens} tokens wait to be read by the edge"
        error = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, message)
        for handle in handles:
            self._outputs.fail(handle, error, answers)

    def _close(self, request: DetokenizeClose, answers: Answers) -> None:
        known = (finish_pb2.FINISH_REASON_STOP, finish_pb2.FINISH_REASON_LENGTH)
        if request.finish_reason in known:
            self._outputs.close(request.handle, answers)
        else:
            self._outputs.abandon(request.handle)
