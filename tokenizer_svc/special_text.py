"""Special tokens spelt out in what a client wrote: found, and told from the template's own.

A chat template marks turns with special tokens such as `<|im_end|>`. Where a client's text spells
one, reading it as what it says would let the client end its turn and speak as the system. Whether a
prompt holds such text is decided by rendering it a second time with the first character of every
special token masked in all that the client wrote: what is still found is the template's own. That
holds also where the template cuts the text up or puts pieces of it together.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.conversation import Conversation

_PRIVATE_USE = range(0xE000, 0xF900)


@dataclass(frozen=True, slots=True)
class MaskedConversation:
    """A conversation in which no client text spells a special token, and the way back."""

    conversation: Conversation
    _masks: Mapping[str, str]

    def unmasked(self, text: str) -> str:
        """The text as the client wrote it."""
        return _replaced(text, {mask: first for first, mask in self._masks.items()})


class SpecialTexts:
    """The special tokens of a model, as text."""

    def __init__(self, tokens: Iterable[str]) -> None:
        longest_first = sorted(filter(None, tokens), key=lambda token: (-len(token), token))
        self._first_characters = sorted({token[0] for token in longest_first})
        # Matches nothing where a model has no special tokens.
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def found(self, text: str) -> list[str]:
        """All special tokens that the text spells, in order."""
        return self._pattern.findall(text)

    def foreign(self, text: str, own_text: str) -> list[str]:
        """Special tokens of `text` that are not in `own_text`, the masked rendering."""
        return sorted((Counter(self.found(text)) - Counter(self.found(own_text))).elements())

    def replaced(self, text: str, replacements: Mapping[str, str]) -> str:
        """The text with each special token replaced."""
        return self._pattern.sub(lambda match: replacements[match[0]], text)

    def may_be_spelt(self, conversation: Conversation) -> bool:
        """Whether a client text holds what a special token begins with; cheap."""
        return any(
            first in text for text in conversation.texts() for first in self._first_characters
        )

    def masked(self, conversation: Conversation, prompt: str) -> MaskedConversation:
        """Mask the conversation by characters that neither it nor its `prompt` uses.

        Raises ServiceError where it uses up all private ones, which only an attack does.
        """
        used = "".join([prompt, *conversation.texts()])
        unused = (mask for mask in map(chr, _PRIVATE_USE) if mask not in used)
        masks = dict(zip(self._first_characters, unused, strict=False))
        if len(masks) < len(self._first_characters):
            message = "The messages use too many different private-use characters."
            raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")
        return MaskedConversation(conversation.changed(lambda text: _replaced(text, masks)), masks)


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    # str.replace for each is many times faster than str.translate on long texts.
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text
