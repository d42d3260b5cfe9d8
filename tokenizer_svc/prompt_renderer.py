"""A conversation to a prompt's token ids: what the template takes, special tokens, length.

Blocking and pure but for the template's clock; runs on a thread of the encoding pool.
"""

from collections.abc import Callable, Sequence
from functools import partial

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.encoding import TextEncoder, TooManyTokensError, exceeds
from tokenizer_svc.prompt_templates import PromptTemplate, PromptTemplates
from tokenizer_svc.render_times import RenderTimes
from tokenizer_svc.settings import SpecialTokensInContent
from tokenizer_svc.special_text import SpecialTexts


class PromptRenderer:
    """One model's way from conversations to ids. `context_length` is in tokens."""

    def __init__(
        self,
        templates: PromptTemplates,
        encoder: TextEncoder,
        context_length: int,
        special_tokens_in_content: SpecialTokensInContent,
    ) -> None:
        self._templates = templates
        self._encoder = encoder
        self._context_length = context_length
        self._policy = special_tokens_in_content
        self._special_texts = SpecialTexts(encoder.marks)

    def can_switch_thinking(self, *, has_tools: bool) -> bool:
        """Whether the template can be told to think or not to."""
        return self._templates.of(has_tools=has_tools).switch is not None

    def render(
        self,
        conversation: Conversation,
        max_prompt_tokens: int | None = None,
        times: RenderTimes | None = None,
    ) -> list[int]:
        """The prompt's ids, at most `max_prompt_tokens` and the model's context of them.

        What it takes is added to `times`. Raises ServiceError: CONTEXT_LENGTH_EXCEEDED for a longer
        prompt, INVALID_REQUEST for messages or tools that the template or the rule for special
        tokens refuses.
        """
        times = times or RenderTimes()
        limit = self._context_length
        if max_prompt_tokens is not None:
            limit = min(limit, max_prompt_tokens)
        has_tools = bool(conversation.tools)
        template = self._templates.of(has_tools=has_tools, calls_as=conversation.calls_as)
        with times.template:
            conversation = template.prepared(conversation)
            text = template.text(conversation)
        # Before anything else that takes longer for a longer text.
        with times.encoding:
            too_many = exceeds(self._encoder.count, text, limit)
        if too_many is not None:
            raise _too_long(limit, f"at least {too_many}")
        try:
            spelt = self._spelt(template, conversation, text, times)
            with times.encoding:
                ids = spelt(limit)
        except TooManyTokensError as error:
            raise _too_long(limit, str(error.count)) from error
        if not ids:
            message = "The chat template made an empty prompt of these messages."
            raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")
        return ids

    def _spelt(
        self, template: PromptTemplate, conversation: Conversation, text: str, times: RenderTimes
    ) -> Callable[[int], list[int]]:
        """What encodes the prompt's `text`, special tokens in it being the template's own."""
        plain = partial(self._encoder.encode, text)
        if self._policy == "allow" or not self._special_texts.may_be_spelt(conversation):
            return plain
        masked = self._special_texts.masked(conversation, text)
        with times.template:
            own_text = template.text(masked.conversation)
        if self._special_texts.found(text) == self._special_texts.found(own_text):
            return plain
        if self._policy == "refuse":
            raise _refused(self._special_texts.foreign(text, own_text))
        marked = self._special_texts.replaced(own_text, self._encoder.marks)
        return partial(self._encoder.encode_marked, masked.unmasked(marked))


def _too_long(limit: int, tokens: str) -> ServiceError:
    message = (
        f"This model's maximum context length is {limit} tokens. "
        f"However, your messages resulted in {tokens} tokens."
    )
    return ServiceError(errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, message, param="messages")


def _refused(tokens: Sequence[str]) -> ServiceError:
    spelt = ", ".join(f"`{token}`" for token in dict.fromkeys(tokens)) or "a special token"
    message = f"The messages spell {spelt}, which is reserved for the model's own use."
    return ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")
