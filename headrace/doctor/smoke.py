"""One request through the engine: what it took to load, to begin and to go on."""

import json

from headrace.doctor.children import Answer
from headrace.doctor.finding import Finding, fail, ok

_NAME = "smoke test"
_SHOWN_CHARACTERS = 160


def judge_smoke(answer: Answer, num_wanted: int) -> Finding:
    """A person should look at the text, too: an engine may be fast and wrong.

    Facts: `load_seconds`, `first_token_ms`, `num_tokens`, `decode_ms`, `finish`, `text`; or only
    `problem`, one sentence.
    """
    facts = answer.facts
    if facts is None:
        return fail(
            _NAME,
            f"the engine's process {answer.problem}",
            "--log FILE keeps what it said; a load that takes longer needs a larger "
            "--smoke-seconds; one that hangs with several GPUs on PCIe may need NCCL_P2P_DISABLE=1",
        )
    if facts["problem"]:
        return fail(_NAME, facts["problem"], "--log FILE keeps what the engine said before")
    if not facts["num_tokens"]:
        return fail(_NAME, "the engine answered without a token", "--log FILE keeps what it said")
    rest, decode_ms = facts["num_tokens"] - 1, facts["decode_ms"]
    rate = f", then {rest * 1000 / decode_ms:.1f} tokens/s" if rest and decode_ms > 0 else ""
    cut = "" if facts["num_tokens"] == num_wanted else f" ({facts['finish']})"
    text = json.dumps(facts["text"][:_SHOWN_CHARACTERS], ensure_ascii=False)
    return ok(
        _NAME,
        f"loaded in {facts['load_seconds']:.1f} s, first token after "
        f"{facts['first_token_ms']:.0f} ms{rate}, {facts['num_tokens']} tokens{cut}: {text}",
    )
