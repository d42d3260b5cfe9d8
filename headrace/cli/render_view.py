"""What `headrace render` shows of a request: everything that is made of it, before it is written.

`guide` is the kind and the text that the engine gets; None = nothing restricts the answer.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from edge.openai.backend_errors import as_client_sees
from headrace.cli.render_request import FileRequest
from headrace.cli.render_tokenizers import ModelFacts, Tokenizer
from headrace.client.conversation import render_request
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import BlockDigestParams, RenderResponse
from headrace.worker.v1.generation_pb2 import Guide

_CALLS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class TokenText:
    """What an id says behind other text; special tokens are spelt out."""

    token_id: int
    text: str
    is_special: bool


@dataclass(frozen=True, slots=True)
class RenderedView:
    """A rendered request. `texts` are those of the different ids, None unless asked for."""

    request: FileRequest
    model: ModelFacts
    prompt: str
    token_ids: tuple[int, ...]
    texts: dict[int, TokenText] | None
    blocks: BlockDigestParams
    digests: tuple[str, ...]
    output_format: str
    begins_in_reasoning: bool
    guide: tuple[str, str] | None

    @property
    def tokens_left(self) -> int:
        """Tokens of the context behind the prompt."""
        return self.model.context_length - len(self.token_ids)


async def rendered_view(
    tokenizer: Tokenizer, request: FileRequest, blocks: BlockDigestParams, *, with_texts: bool
) -> RenderedView:
    """Have the request rendered; blocks without a model are of its own. Raises ServiceError."""
    facts = tokenizer.facts
    blocks.model = blocks.model or facts.name
    wire = render_request(request.chat.prompt_request(facts.name))
    wire.block_digests.CopyFrom(blocks)
    try:
        response = await tokenizer.render(wire)
    except ServiceError as error:
        raise as_client_sees(error, request.chat) from error
    ids = tuple(response.prompt_token_ids)
    return RenderedView(
        request,
        facts,
        prompt=await tokenizer.decode(ids, keep_special_tokens=True),
        token_ids=ids,
        texts=await _token_texts(tokenizer, ids) if with_texts else None,
        blocks=blocks,
        digests=tuple(digest.hex() for digest in response.block_digests),
        output_format=response.decoder.output_format,
        begins_in_reasoning=response.decoder.begins_in_reasoning,
        guide=_guide(response),
    )


def _guide(response: RenderResponse) -> tuple[str, str] | None:
    if not response.HasField("guide"):
        return None
    guide: Guide = response.guide
    kind = guide.WhichOneof("kind") or "unknown"
    if kind == "choice":
        return kind, json.dumps(list(guide.choice.alternatives), ensure_ascii=False)
    text = getattr(guide, kind, "")
    return kind, text if isinstance(text, str) else ""


async def _token_texts(tokenizer: Tokenizer, token_ids: Sequence[int]) -> dict[int, TokenText]:
    gate = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def one(token_id: int) -> TokenText:
        async with gate:
            return await _token_text(tokenizer, token_id)

    different = sorted(set(token_ids))
    texts = await asyncio.gather(*map(one, different))
    return dict(zip(different, texts, strict=True))


async def _token_text(tokenizer: Tokenizer, token_id: int) -> TokenText:
    plain = await tokenizer.decode([token_id], keep_special_tokens=False)
    alone = await tokenizer.decode([token_id], keep_special_tokens=True)
    # By itself it is a text's first token, which may lose a space; behind its own text it is not.
    behind = await tokenizer.decode([token_id, token_id], keep_special_tokens=True)
    text = behind.removeprefix(alone) if behind.startswith(alone) else alone
    return TokenText(token_id, text, is_special=not plain and bool(alone))
