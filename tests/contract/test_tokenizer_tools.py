"""Tools, guides and thinking in Render, over real gRPC."""

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.tokenizer.v1.render_pb2 import Function, Message, RenderRequest, ToolChoice
from headrace.worker.v1.generation_pb2 import Guide
from tests.support.raw_detokenize import running_tokenizer
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

USER = Message(role="user", content="Hello, world!")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One model whose template knows no tools."""
    directory = write_model(tmp_path_factory.mktemp("models") / "small", train_tokenizer())
    return ModelRegistry([TokenizerModel.load(directory, TokenizerSettings())])


async def refusal(call: grpc.aio.UnaryUnaryCall) -> ServiceError:
    """The error with which the call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, peer="tokenizer")


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("tools", RenderRequest(messages=[USER], tools=[Function(name="f")])),
        ("tool_choice", RenderRequest(messages=[USER], tool_choice=ToolChoice(required=True))),
        ("content_guide", RenderRequest(messages=[USER], content_guide=Guide(json_object=True))),
        ("thinking", RenderRequest(messages=[USER], thinking=True)),
    ],
)
async def test_what_is_not_read_is_refused(
    registry: ModelRegistry, name: str, request_: RenderRequest
) -> None:
    """A field that the renderer does not follow is refused by name."""
    async with running_tokenizer(registry) as tokenizer:
        error = await refusal(tokenizer.stub.Render(request_))

    assert (error.reason, error.param) == (errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, name)
