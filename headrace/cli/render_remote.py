"""A tokenizer service that runs, as `headrace render` asks it."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc

from edge.settings import BackendSettings
from headrace.cli.render_tokenizers import ModelFacts, Tokenizer
from headrace.rpc.bearer import OwnKey, OwnKeyFile
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import error_from_rpc
from headrace.runtime.errors import StartError
from headrace.tokenizer.v1.encoding_pb2 import DecodeRequest
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.render_pb2 import RenderRequest, RenderResponse
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub


class RemoteHost:
    """A tokenizer service that runs."""

    def __init__(self, connection: "_Connection", names: Sequence[str]) -> None:
        self._connection = connection
        self.names = names

    def knows(self, name: str) -> bool:
        """Whether it serves the model to this caller."""
        return name in self.names

    async def open(self, name: str) -> Tokenizer:
        """Ask what the service knows of it. Raises StartError, ServiceError."""
        if not self.knows(name):
            raise StartError(
                f"{self._connection.peer} serves no model {name}; it serves {', '.join(self.names)}"
            )
        return RemoteTokenizer(self._connection, await self._connection.facts(name))


class RemoteTokenizer:
    """One of the service's models."""

    def __init__(self, connection: "_Connection", facts: ModelFacts) -> None:
        self._connection = connection
        self.facts = facts

    async def render(self, request: RenderRequest) -> RenderResponse:
        """The service's answer. Raises ServiceError."""
        return await self._connection.render(request)

    async def decode(self, token_ids: Sequence[int], *, keep_special_tokens: bool) -> str:
        """The service's answer. Raises ServiceError."""
        request = DecodeRequest(
            model=self.facts.name, token_ids=token_ids, keep_special_tokens=keep_special_tokens
        )
        return await self._connection.decode(request)


@asynccontextmanager
async def connected_host(
    address: str, settings: BackendSettings, api_key_file: Path | None
) -> AsyncIterator[RemoteHost]:
    """The service at `address`, asked as an edge with these settings would ask it.

    `api_key_file` goes before that of the settings. Raises StartError for unusable files,
    ServiceError where the service does not answer.
    """
    file = api_key_file or settings.api_key_file
    key = OwnKey() if file is None else OwnKeyFile(file)
    credentials = PeerCredentials(settings.tls, key)
    async with credentials.open_channel(address) as channel:
        connection = _Connection(address, credentials, channel, settings.render_timeout_seconds)
        yield RemoteHost(connection, await connection.served_models())


class _Connection:
    """The calls to one service; all raise ServiceError."""

    def __init__(
        self,
        address: str,
        credentials: PeerCredentials,
        channel: grpc.aio.Channel,
        timeout_seconds: float,
    ) -> None:
        self.peer = f"the tokenizer at {address}"
        self._credentials = credentials
        self._stub = TokenizerServiceStub(channel)
        self._timeout = timeout_seconds

    async def served_models(self) -> list[str]:
        with self._translated():
            answer = await self._stub.GetModel(GetModelRequest(), **self._options())
        return [answer.model, *(name for name in answer.served_models if name != answer.model)]

    async def facts(self, name: str) -> ModelFacts:
        with self._translated():
            answer = await self._stub.GetModel(GetModelRequest(model=name), **self._options())
        return ModelFacts(answer.model, answer.context_length, answer.tokenizer_fingerprint)

    async def render(self, request: RenderRequest) -> RenderResponse:
        with self._translated():
            answer: RenderResponse = await self._stub.Render(request, **self._options())
        return answer

    async def decode(self, request: DecodeRequest) -> str:
        with self._translated():
            answer = await self._stub.Decode(request, **self._options())
        text: str = answer.text
        return text

    def _options(self) -> dict[str, object]:
        return {"timeout": self._timeout, "metadata": self._credentials.own_key.metadata()}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, peer=self.peer)
            error.message = self._credentials.explain(error.message)
            raise error from failure
