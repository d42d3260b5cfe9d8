"""`headrace serve --engine tensorrt_llm`: real processes, with the double for the library."""

import os
from pathlib import Path

import openai
import pytest

from tests.support.curl_line import post_curl_line
from tests.support.lora_adapters import write_adapter
from tests.support.serve_command import ROOT, serving
from tests.support.tensorrt_llm import LIBRARY
from tests.support.tokenizer_models import train_tokenizer, write_model

pytestmark = pytest.mark.e2e


def _text(client: openai.OpenAI, model: str) -> str | None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hello, world!"}],
        temperature=0,
        max_tokens=20,
    )
    return answer.choices[0].message.content


def test_a_model_and_its_adapters_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command to answers: each name is listed and writes a text of its own."""
    model = write_model(tmp_path / "base", train_tokenizer()).path
    (model / "model.safetensors").touch()
    config = tmp_path / "headrace.toml"
    adapters = {name: write_adapter(tmp_path / name) for name in ("sql", "tone")}
    config.write_text(
        "[worker.tensorrt_llm.lora_adapters]\n"
        + "".join(f"{name}.path = '{path}'\n" for name, path in adapters.items())
    )
    path = os.pathsep.join((str(ROOT), str(LIBRARY)))
    flags = ("--engine", "tensorrt_llm", "--model", str(model), "--config", str(config))
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", "{}")
    with serving(tmp_path / "log", *flags, python_path=path) as served:
        assert served.curl, (tmp_path / "log").read_text()
        status, _ = post_curl_line(served.curl)
        url = served.curl.split()[2].removesuffix("/chat/completions")
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=20) as client:
            listed = [one.id for one in client.models.list()]
            texts = [_text(client, name) for name in [*listed, "sql"]]
        served.process.terminate()
        assert served.wait() == 0

    assert status == 200
    assert listed == ["base", "sql", "tone"]
    assert len(set(texts)) == 3
    assert texts[3] == texts[1]
