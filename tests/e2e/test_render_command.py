"""`headrace render` against a tokenizer process, as somebody who debugs a prompt uses it."""

import json
import subprocess
import sys
from typing import Any

from tests.support.chat_client import ask, chat_body
from tests.support.stack import ROOT, Stack, clean_environment

_LOOK = {"name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}
_BODY = chat_body(
    "Why does <|im_end|> end nothing here?",
    max_tokens=5,
    tools=[{"type": "function", "function": _LOOK}],
)


async def test_a_running_tokenizer_shows_what_the_files_say(paced: Stack) -> None:
    """The same from the process and from the model's folder, as long as the answer's usage says."""
    there = _rendered("--tokenizer", paced.tokenizers[0].address)
    here = _rendered()
    answer = await ask(paced.edge, _BODY)
    special = [token["text"] for token in there["tokens"] if token["special"]]

    assert there == here
    assert there["prompt_tokens"] == answer.usage["prompt_tokens"]
    assert there["prompt"].count("<|im_end|>") == 3
    assert special.count("<|im_end|>") == 2
    assert '"name": "look"' in there["prompt"]
    assert there["output_format"] == "hermes"
    assert len(there["block_digests"]) == there["prompt_tokens"] // 32 > 0


def _rendered(*flags: str) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "headrace", "render", "-", "--json", "--ids", *flags]
    body = json.dumps(_BODY).encode()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(),
        input=body,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document
