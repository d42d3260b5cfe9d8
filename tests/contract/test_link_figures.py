"""What the client counts of its peers: frames, tokens and states, over all their connections."""

from headrace.client.figures import PeerFigures
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, scripted_scene


def peers(scene: Scene) -> tuple[PeerFigures, PeerFigures]:
    """The workers' figures and the tokenizers'."""
    found = scene.backend.figures.peers
    return found["worker"], found["tokenizer"]


async def test_tokens_are_counted_where_they_come_from_and_where_they_go() -> None:
    """Frames count both ways; tokens of answers from workers, and on to tokenizers."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        before = [(each.frames_sent, each.frames_received) for each in peers(scene)]
        scene.generate(consumer)
        _, submission = await scene.serving_worker()
        await scene.worker.send(wrk.tokens(submission.first_handle, 11, 12, 13))
        await scene.tokenizer.read_until("token_ids")
        await scene.tokenizer.send(tok.text(submission.first_handle, "three", 3))
        await consumer.hears("text")
        worker, tokenizer = peers(scene)

    assert ({"received": 3}, {"sent": 3}) == (worker.tokens, tokenizer.tokens)
    assert (1, 1) == (before[0][1], before[1][1])
    assert (2, 2) == (worker.frames_received, tokenizer.frames_received)
    assert worker.frames_sent > before[0][0]
    assert tokenizer.frames_sent > before[1][0]


async def test_frames_go_on_counting_after_a_loss() -> None:
    """A new connection begins no new count, and who is away is told from who serves."""
    async with scripted_scene(workers=2) as scene:
        assert {"serving": 2, "draining": 0, "away": 0} == peers(scene)[0].states
        link = scene.backend._workers[0]
        lost = scene.workers[0]
        scene.worker.close()
        again = await lost.opened.get()
        assert {"serving": 1, "draining": 0, "away": 1} == peers(scene)[0].states
        received = peers(scene)[0].frames_received
        await again.greet()
        await link.connected.wait()

        assert received + 1 == peers(scene)[0].frames_received
        assert {"serving": 2, "draining": 0, "away": 0} == peers(scene)[0].states
