"""Streaming and typed errors, as each client gives them, and the README's own programs."""

import re
from collections.abc import Callable

import pytest

from tests.clients.python.tasks import STORY_TOKENS
from tests.clients.told import CLIENTS, ToldBy, of
from tests.support.stack import ROOT

OPENAI_ERRORS = ("AuthenticationError", "NotFoundError", "BadRequestError")
# for a wrong key, an unknown model and a bad value
ERRORS = {
    "langchain": (
        "OpenAIAuthenticationError",
        "OpenAIModelNotFoundError",
        "OpenAIInvalidRequestError",
    ),
    "pydantic_ai": (
        "ModelAuthenticationError",
        "ModelNotFoundError",
        "ModelRequestRejectedError",
    ),
    "node_vercel": ("APICallError", "APICallError", "APICallError"),
}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.model,
    pytest.mark.slow,
    # The first of them starts the stack and installs the Node packages.
    pytest.mark.timeout(420),
]


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "instructor"])
def test_text_streams(told_by: ToldBy, client: str) -> None:
    """Text comes in many pieces, with its finish reason and its counts at the end."""
    told = of(told_by(client), "stream")

    assert len(told["texts"]) > 2
    assert "".join(told["texts"]).strip()
    assert told["prompt_tokens"] > 0
    assert 0 < told["completion_tokens"] <= STORY_TOKENS
    is_cut = told["completion_tokens"] == STORY_TOKENS
    assert told["finish"] == ("length" if is_cut else "stop")


@pytest.mark.parametrize("client", CLIENTS)
def test_errors_have_types(told_by: ToldBy, client: str) -> None:
    """A wrong key, an unknown model and a bad value are each the client's own exception."""
    told = of(told_by(client), "errors")
    found = [told[name] for name in ("wrong_key", "unknown_model", "bad_value")]

    assert tuple(error["kind"] for error in found) == ERRORS.get(client, OPENAI_ERRORS)
    assert [error["status_code"] for error in found] == [401, 404, 400]
    bad_value = found[2].get("body", found[2])
    assert bad_value["param"] == ("max_tokens" if client == "llm" else "temperature")
    assert bad_value["type"] == "invalid_request_error"


@pytest.mark.parametrize("client", CLIENTS)
def test_the_readme_names_what_was_tried(told_by: ToldBy, client: str) -> None:
    """The README's table has the versions that these tests ran."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    for package, version in told_by(client)["packages"].items():
        assert f"{package} {version}" in readme


def test_the_readmes_programs_run(run_snippet: Callable[[str, str], str]) -> None:
    """Each program of the README's section does what it is there for."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Clients\n")[1]
    programs = re.findall(r"```(python|js)\n(.*?)```", section.split("\n## ")[0], re.DOTALL)

    report, calls, text = [run_snippet(language, program) for language, program in programs]

    assert report.startswith("city=")
    assert "'name': 'get_weather'" in calls
    assert text.strip()
