"""The key that an edge shows to its workers and tokenizers, and its change while requests run."""

from pathlib import Path

from headrace.access.key_ring import KeyRing
from headrace.client.prompt_request import PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import OwnKeyFile
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import wait_until
from tests.support.in_process import HELLO, connected_backend, in_process_stack, small_registry
from tests.support.keys import KEY, OTHER_KEY, trusted_entry, write_keys
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import generation_options
from worker.engine.paced_settings import PacedSettings


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_removed_key_ends_nothing_that_runs_and_the_next_one_is_taken(
    tmp_path: Path,
) -> None:
    """What runs ends as it would; new requests are refused for the moment; then the stream is new.

    The tokens of the running answer come over the stream that was opened with the removed key.
    """
    registry = small_registry(tmp_path)
    keys = KeyRing(write_keys(tmp_path / "keys.toml", trusted_entry(KEY)))
    own_file, clock = tmp_path / "edge.key", Clock()
    own_file.write_text(KEY)
    own_key = OwnKeyFile(own_file, clock)
    async with (
        in_process_stack(registry, PacedSettings(tokens_per_second=200), keys=keys) as stack,
        connected_backend(stack, PeerCredentials(None, own_key)) as backend,
    ):
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        running, refused, after = (RecordingConsumer() for _ in range(3))
        backend.generate(prompt, generation_options(max_tokens=100), running)
        await running.hears("text")
        write_keys(keys.file, trusted_entry(OTHER_KEY))
        own_file.write_text(OTHER_KEY)
        clock.now = 1.0
        await keys.reload()
        try:
            backend.generate(prompt, generation_options(), refused)
            await refused.ended.wait()
            (error,) = refused.errors
        except ServiceError as early:
            error = early
        await running.ended.wait()
        await wait_until(lambda: backend.is_ready)
        again = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        backend.generate(again, generation_options(max_tokens=3), after)
        await after.ended.wait()

    assert error.reason == errors_pb2.ERROR_REASON_DRAINING
    assert not running.errors
    assert running.results[0].completion_tokens == 100
    assert after.results[0].completion_tokens == 3
