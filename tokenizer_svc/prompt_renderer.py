"""A conversation to a prompt's token ids: what the template takes, special tokens, length.

Blocking and pure but for the template's clock; runs on a thread of the encoding pool.
"""

from collections.abc import Sequence
from typing import Literal

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.encoding import TextEncoder, TooManyTokensError, exceeds
from tokenizer_svc.message_adapting import adapted
from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.message_preparing import prepared
from tokenizer_svc.special_text import SpecialTexts
from tokenizer_svc.template_support import probed_support

SpecialTokensInContent = Literal["text", "refuse", "allow"]


class PromptRenderer:
    """One model's way from messages to ids. `context_length` is in tokens.

    Making one renders the template's probes, a few milliseconds.
    """

    def __init__(
        self,
        template: ChatTemplate,
        encoder: TextEncoder,
        context_length: int,
        special_tokens_in_content: SpecialTokensInContent,
    ) -> None:
        self._template = template
        self._encoder = encoder
        self._context_length = context_length
        self._policy = special_tokens_in_content
        self._special_texts = SpecialTexts(encoder.marks)
        self._support = probed_support(template)

    def render(
        self, messages: Sequence[TemplateMessage], max_prompt_tokens: int | None = None
    ) -> list[int]:
        """The prompt's ids, at most `max_prompt_tokens` and the model's context of them.

        Raises ServiceError: CONTEXT_LENGTH_EXCEEDED for a longer prompt, INVALID_REQUEST for
        messages that the template or the rule for special tokens refuses.
        """
        limit = self._context_length
        if max_prompt_tokens is not None:
            limit = min(limit, max_prompt_tokens)
        messages = prepared(messages, self._support)
        text = self._text(messages)
        # Before anything else that takes longer for a longer text.
        too_many = exceeds(self._encoder.count, text, limit)
        if too_many is not None:
            raise _too_long(limit, f"at least {too_many}")
        try:
            ids = self._encode(messages, text, limit)
        except TooManyTokensError as error:
            raise _too_long(limit, str(error.count)) from error
        if not ids:
            message = "The chat template made an empty prompt of these messages."
            raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")
        return ids

    def _text(self, messages: Sequence[TemplateMessage]) -> str:
        return self._template.render(adapted(messages, self._support))

    def _encode(self, messages: Sequence[TemplateMessage], text: str, limit: int) -> list[int]:
        """Ids of the prompt's `text`, special tokens in it being the template's own."""
        if self._policy == "allow" or not self._special_texts.may_be_spelt(messages):
            return self._encoder.encode(text, limit)
        masked = self._special_texts.masked(messages, text)
        own_text = self._text(masked.messages)
        if self._special_texts.found(text) == self._special_texts.found(own_text):
            return self._encoder.encode(text, limit)
        if self._policy == "refuse":
            raise _refused(self._special_texts.foreign(text, own_text))
        marked = self._special_texts.replaced(own_text, self._encoder.marks)
        return self._encoder.encode_marked(masked.unmasked(marked), limit)


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
