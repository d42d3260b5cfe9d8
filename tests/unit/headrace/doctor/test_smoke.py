"""What is made of the one request."""

import pytest

from headrace.doctor.children import Answer
from headrace.doctor.smoke import judge_smoke

_FACTS = {
    "problem": "",
    "load_seconds": 61.25,
    "first_token_ms": 34.6,
    "num_tokens": 32,
    "decode_ms": 310.0,
    "finish": "length",
    "text": "The rivers are\nlong",
}


def test_times_and_text_are_told_in_one_line() -> None:
    """The rate is of the tokens after the first."""
    finding = judge_smoke(Answer(_FACTS), 32)

    assert finding.render() == (
        "ok    smoke test     loaded in 61.2 s, first token after 35 ms, then 100.0 tokens/s, "
        '32 tokens: "The rivers are\\nlong"\n'
    )


def test_an_early_end_is_told() -> None:
    """With its reason, and without a rate where there is one token."""
    finding = judge_smoke(Answer({**_FACTS, "num_tokens": 1, "finish": "stop"}), 32)

    assert "after 35 ms, 1 tokens (stop)" in finding.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(None, "was killed by SIGKILL"), "the engine's process was killed by SIGKILL"),
        (Answer({"problem": "out of memory"}), "out of memory"),
        (Answer({**_FACTS, "num_tokens": 0}), "without a token"),
    ],
)
def test_what_does_not_answer_fails(answer: Answer, said: str) -> None:
    """With what to do."""
    finding = judge_smoke(answer, 32)

    assert finding.verdict == "fail"
    assert said in finding.text
    assert finding.remedy
