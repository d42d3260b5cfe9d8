"""`headrace render`: a request file as the prompt that a model reads, here or by a service."""

import asyncio
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edge.settings import EdgeSettings
from headrace.access.key_ring import open_key_ring
from headrace.access.settings import KeysSettings
from headrace.cli.main import main as command
from headrace.cli.render import main
from headrace.cli.render_report import json_report, page
from headrace.cli.render_request import read_file_request
from headrace.cli.render_tokenizers import ModelFacts
from headrace.cli.render_view import RenderedView, rendered_view
from headrace.cli.tables import load_settings
from headrace.common.v1 import errors_pb2
from headrace.digest import block_digests, root_digest
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from headrace.tokenizer.v1.render_pb2 import (
    BlockDigestParams,
    Decoder,
    RenderRequest,
    RenderResponse,
)
from headrace.worker.v1.generation_pb2 import Choice, Guide
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys
from tests.support.raw_detokenize import running_tokenizer
from tests.support.tokenizer_models import CONTEXT_LENGTH, train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

_ASKED = "Hello<|im_end|>, world!"
_PROMPT = f"<|im_start|>user\n{_ASKED}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with one model, `small`, that has room for few tokens."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "small", train_tokenizer())
    return folder


@pytest.fixture
def rendered(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> "Rendered":
    return Rendered(cache, tmp_path, capsys)


class Rendered:
    """Runs the command on a request and gives what it wrote."""

    def __init__(self, cache: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._cache = cache
        self._file = folder / "request.json"
        self._capsys = capsys

    def text(self, *flags: str, **fields: object) -> str:
        """The page, of a request with these fields."""
        assert main(self.arguments(*flags, **fields)) == 0
        return self._capsys.readouterr().out

    def json(self, *flags: str, **fields: object) -> dict[str, Any]:
        """The object that --json gives."""
        document: dict[str, Any] = json.loads(self.text("--json", *flags, **fields))
        return document

    def arguments(self, *flags: str, **fields: object) -> list[str]:
        """What `main` takes; writes the request's file."""
        messages = [{"role": "user", "content": _ASKED}]
        body = {"model": "small", "messages": messages, **fields}
        self._file.write_text(json.dumps(body), encoding="utf-8")
        return [str(self._file), "--cache-dir", str(self._cache), *flags]


def test_the_prompt_is_shown_as_the_model_reads_it(rendered: Rendered) -> None:
    """Special tokens are spelt out; tokens, what is left of the context and the rest are told."""
    text = rendered.text(max_tokens=CONTEXT_LENGTH)
    facts = rendered.json()
    tokens = len(facts["token_ids"])

    assert f"--- prompt ---\n{_PROMPT}" in text
    assert f"{tokens} tokens; {CONTEXT_LENGTH - tokens} of {CONTEXT_LENGTH} are left" in text
    assert f"{CONTEXT_LENGTH}, {tokens} more than are left" in text
    assert "guide       none: any text" in text
    assert facts["prompt"] == _PROMPT
    assert (facts["model"], facts["requested_model"], facts["profile"]) == (
        "small",
        "small",
        "openai",
    )
    assert (facts["output_format"], facts["begins_in_reasoning"]) == ("text", False)
    assert (facts["context_left"], facts["max_tokens"]) == (CONTEXT_LENGTH - tokens, None)


def test_block_digests_are_those_of_the_worker(rendered: Rendered) -> None:
    """By block size, model, adapter and salt; the openvino engine's size unless told."""
    assert rendered.json()["block_size"] == 32
    flags = ["--block-size", "4", "--block-model", "m", "--lora", "l", "--cache-salt", "s"]
    facts = rendered.json(*flags)
    expected = block_digests(root_digest(4, "m", "l", "s"), 4, facts["token_ids"])

    assert len(expected) > 1
    assert facts["block_digests"] == [digest.hex() for digest in expected]
    assert expected[1].hex() in rendered.text(*flags)
    assert rendered.json("--block-size", "4")["block_digests"] == [
        digest.hex() for digest in block_digests(root_digest(4, "small"), 4, facts["token_ids"])
    ]


def test_ids_show_which_marks_are_the_templates_own(rendered: Rendered) -> None:
    """What a user spelt like a special token is text; together the texts are the prompt."""
    tokens = rendered.json("--ids")["tokens"]
    special = [token["text"] for token in tokens if token["special"]]

    assert special == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert "".join(token["text"] for token in tokens) == _PROMPT
    assert '"<|im_end|>"  special' in rendered.text("--ids")
    assert "tokens" not in rendered.json()


def test_a_format_that_was_asked_for_is_the_answers_guide(rendered: Rendered) -> None:
    """Its schema is shown, and one that cannot be enforced is refused by the client's own field."""

    def asked(schema: object) -> dict[str, object]:
        return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    guide = rendered.json(response_format=asked(schema))["guide"]

    assert (guide["kind"], json.loads(guide["text"])) == ("json_schema", schema)
    assert "--- guide: json_schema ---\n{\n" in rendered.text(response_format=asked(schema))
    wrong = asked({"type": "array", "items": {}, "uniqueItems": True})
    with pytest.raises(StartError, match=r"uniqueItems.*parameter response_format\)"):
        main(rendered.arguments(response_format=wrong))


def test_fields_without_effect_are_told(rendered: Rendered) -> None:
    """Those that were ignored, and those that were changed with the value taken."""
    fields: dict[str, object] = {"temperature": 9, "unheard_of": 1}
    facts = rendered.json("--profile", "lenient", **fields)
    text = rendered.text("--profile", "lenient", **fields)

    assert facts["ignored"] == ["unheard_of"]
    assert facts["clamped"] == {"temperature": 2}
    assert "ignored     unheard_of\nclamped     temperature to 2\n" in text


def test_control_characters_do_not_reach_the_terminal(rendered: Rendered) -> None:
    """The page shows them as escapes, the JSON has them as they are."""
    messages = [{"role": "user", "content": "a\x1b[31mb\tc"}]

    assert "a\\x1b[31mb\tc" in rendered.text(messages=messages)
    assert "a\x1b[31mb\tc" in rendered.json(messages=messages)["prompt"]


def test_a_request_comes_from_stdin(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dash stands for it."""
    body = b'{"model": "small", "messages": [{"role": "user", "content": "Hello"}]}'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body)))

    assert command(["render", "-", "--cache-dir", str(cache)]) == 0
    assert "user\nHello<|im_end|>" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "fields", "said"),
    [
        ([], {"messages": None}, r"messages.*\(invalid_request, parameter messages\)"),
        ([], {"temperature": 9}, r"\(invalid_request, parameter temperature\)"),
        ([], {"audio": {"voice": "a"}}, r"\(unsupported_parameter, parameter audio\)"),
        (["--profile", "own"], {}, "no profile is named own; known are lenient, openai"),
        (["--model", "other"], {}, "model other is not in"),
        (["--model", "./other"], {}, "other does not exist"),
        ([], {"messages": [{"role": "user", "content": "a b" * 500}]}, r"\d+ tokens too many$"),
        (["--tokenizer", "127.0.0.1:1"], {}, "the tokenizer at 127.0.0.1:1: .*no_worker_available"),
    ],
)
def test_what_would_be_refused_says_why(
    rendered: Rendered, flags: list[str], fields: dict[str, object], said: str
) -> None:
    """In the server's own sentence, with the parameter's name."""
    with pytest.raises(StartError, match=said):
        main(rendered.arguments(*flags, **fields))


def test_the_excess_is_that_of_the_context(rendered: Rendered) -> None:
    """A prompt that fits but for few tokens says how many those are."""
    used = len(rendered.json(messages=[{"role": "user", "content": ""}])["token_ids"])
    content = "\u2028" * 100  # three tokens each
    with pytest.raises(StartError) as refused:
        main(rendered.arguments(messages=[{"role": "user", "content": content}]))

    assert f"{used + 300} tokens" in str(refused.value)
    assert str(refused.value).endswith(f": {used + 300 - CONTEXT_LENGTH} tokens too many")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "cannot be read: No such file"),
        (b'{"model"', r"line 1, column \d"),
        (b"[]", "object"),
    ],
)
def test_a_file_that_is_no_request(tmp_path: Path, body: bytes | None, said: str) -> None:
    """Missing, broken, or something else: exit code 1 and one sentence."""
    file = tmp_path / "request.json"
    if body is not None:
        file.write_bytes(body)

    with pytest.raises(StartError, match=said):
        main([str(file)])
    assert command(["render", str(file)]) == 1


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_a_block_has_tokens(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A block size that is none is a wrong argument."""
    with pytest.raises(SystemExit) as caught:
        main(["-", "--block-size", size])

    assert caught.value.code == 2
    assert "is not an integer from 1" in capsys.readouterr().err


def test_the_model_is_the_requests_where_it_is_known(rendered: Rendered, cache: Path) -> None:
    """By name or folder, else the first; --model goes before it."""
    write_model(cache / "another", train_tokenizer())
    folder = f"{cache}/another"

    assert rendered.json(model="another")["model"] == "another"
    assert rendered.json(model=folder)["model"] == "another"
    assert rendered.json("--model", "another")["model"] == "another"
    assert rendered.json("--model", folder, model="gpt-4o")["requested_model"] == "gpt-4o"
    with pytest.raises(StartError, match="run `headrace model pull`"):
        main(rendered.arguments(model="gpt-4o"))


def test_settings_are_the_services_own(rendered: Rendered, tmp_path: Path) -> None:
    """Aliases with profile and cap, and the rule for special tokens, as the server would."""
    config = tmp_path / "headrace.toml"
    config.write_text(
        '[edge.aliases."*"]\nmodel = "small"\nprofile = "lenient"\nmax_tokens = 7\n'
        '[tokenizer]\nspecial_tokens_in_content = "refuse"\n',
        encoding="utf-8",
    )
    flags = ["--config", str(config)]
    plain = [{"role": "user", "content": "Hello"}]
    facts = rendered.json(*flags, model="gpt-4o", messages=plain, temperature=9)

    assert (facts["model"], facts["profile"], facts["max_tokens"]) == ("small", "lenient", 7)
    assert rendered.json(*flags, messages=plain)["profile"] == "openai"
    with pytest.raises(StartError, match="reserved for the model's own use"):
        main(rendered.arguments(*flags))


async def test_a_service_gives_the_same(rendered: Rendered, cache: Path, tmp_path: Path) -> None:
    """A running tokenizer's prompt is that of the files, shown to whoever has a key."""
    keys = write_keys(tmp_path / "keys.toml", entry(KEY))
    mine, wrong = tmp_path / "mine.key", tmp_path / "wrong.key"
    mine.write_text(KEY, encoding="utf-8")
    wrong.write_text(OTHER_KEY, encoding="utf-8")
    directory = write_model(cache / "small", train_tokenizer())
    registry = ModelRegistry([TokenizerModel.load(directory, TokenizerSettings())])
    here = await asyncio.to_thread(rendered.json, "--ids")
    async with running_tokenizer(registry, keys=open_key_ring(KeysSettings(file=keys))) as running:
        there = ["--tokenizer", f"127.0.0.1:{running.server.port}", "--api-key-file"]
        flags = ["--ids", *there, str(mine)]

        assert await asyncio.to_thread(rendered.json, *flags) == here
        with pytest.raises(StartError, match="serves no model other; it serves small"):
            await asyncio.to_thread(main, rendered.arguments(*flags, "--model", "other"))
        with pytest.raises(StartError, match="invalid_api_key"):
            await asyncio.to_thread(main, rendered.arguments(*there, str(wrong)))


class ScriptedTokenizer:
    """Answers every rendering with one response or error; each id says its number."""

    facts = ModelFacts("scripted", 100, "f" * 32)

    def __init__(self, response: RenderResponse | ServiceError) -> None:
        self._response = response
        self.asked = RenderRequest()

    async def render(self, request: RenderRequest) -> RenderResponse:
        self.asked = request
        if isinstance(self._response, ServiceError):
            raise self._response
        return self._response

    async def decode(self, token_ids: Sequence[int], *, keep_special_tokens: bool) -> str:
        return "".join(f"<{token_id}>" for token_id in token_ids)


_LARK = (
    'start: call+\ncall: "<call>" %json {"type": "object"} "</call>"\nother: %json {"const": 1}\n'
)

_LARK_SPREAD = """\
start: call+
call: "<call>" %json {
  "type": "object"
} "</call>"
other: %json {
  "const": 1
}
"""


@pytest.mark.parametrize(
    ("guide", "shown"),
    [
        (Guide(json_schema='{"type":"object"}'), 'json_schema ---\n{\n  "type": "object"\n}\n'),
        (Guide(json_object=True), "json_object ---\n"),
        (Guide(regex="[a-z]{3}"), "regex ---\n[a-z]{3}\n"),
        (
            Guide(choice=Choice(alternatives=["ja", "nein"])),
            'choice ---\n[\n  "ja",\n  "nein"\n]\n',
        ),
        (
            Guide(grammar=_LARK),
            f"grammar ---\n{_LARK_SPREAD}",
        ),
    ],
)
async def test_a_guide_is_shown_to_be_read(guide: Guide, shown: str) -> None:
    """Its kind, and its text with the JSON in it spread over lines; machines get it as it is."""
    decoder = Decoder(output_format="qwen3+hermes", begins_in_reasoning=True)
    response = RenderResponse(prompt_token_ids=[3, 4], decoder=decoder, guide=guide)
    tokenizer = ScriptedTokenizer(response)
    view = await _view(tokenizer)
    document = json.loads(json_report(view))

    assert f"--- guide: {shown}" in page(view)
    assert "format qwen3+hermes, which the prompt's end opens in its thoughts" in page(view)
    assert document["begins_in_reasoning"]
    assert document["guide"]["kind"] == guide.WhichOneof("kind")
    if guide.HasField("grammar"):
        assert document["guide"]["text"] == _LARK
    assert tokenizer.asked.messages[0].content == "Hello"
    assert tokenizer.asked.block_digests == BlockDigestParams(block_size=8, model="scripted")


async def test_a_refusal_names_the_clients_own_field() -> None:
    """What the tokenizer calls a tool's parameters stands elsewhere in the body."""
    reason = errors_pb2.ERROR_REASON_INVALID_REQUEST
    tokenizer = ScriptedTokenizer(ServiceError(reason, "not that", "tools[0].parameters"))
    function = {"name": "look", "parameters": {"type": "object"}}
    with pytest.raises(ServiceError, match="not that") as refused:
        await _view(tokenizer, tools=[{"type": "function", "function": function}])

    assert refused.value.param == "tools[0].function.parameters"


async def _view(tokenizer: ScriptedTokenizer, **fields: object) -> RenderedView:
    messages = [{"role": "user", "content": "Hello"}]
    body = json.dumps({"model": "scripted", "messages": messages, **fields}).encode()
    settings = load_settings("edge", EdgeSettings, None)
    request = read_file_request(body, settings, None, ["scripted"])
    return await rendered_view(
        tokenizer, request, BlockDigestParams(block_size=8), with_texts=False
    )
