"""Templates of the well-known families, rendered as Hugging Face's own library renders them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from headrace.models.cache import resolve_model
from headrace.models.default import DEFAULT_MODEL
from headrace.models.directory import open_model_directory
from headrace.rpc.errors import ServiceError
from tests.support.chat_templates import CONVERSATIONS, FAMILIES, Messages
from tests.support.tokenizer_models import write_model
from tokenizer_svc.registry import TokenizerModel
from tokenizer_svc.settings import TokenizerSettings


class Pair:
    """A model directory as the service reads it, and as transformers does."""

    def __init__(self, folder: Path) -> None:
        self.model = TokenizerModel.load(open_model_directory(folder), TokenizerSettings())
        self.oracle = PreTrainedTokenizerFast.from_pretrained(folder)

    def expected_text(self, messages: Messages) -> str | None:
        """The library's text; None where its template refuses the messages."""
        try:
            text = self.oracle.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, TypeError):
            return None
        assert isinstance(text, str)
        return text

    def text(self, messages: Messages) -> str | None:
        """Our text; None where it is refused."""
        try:
            return self.model.prompt_renderer()._template.render(messages)
        except ServiceError:
            return None


@pytest.fixture(scope="module")
def pairs(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """A model for each family, with the same small vocabulary."""
    folder = tmp_path_factory.mktemp("families")
    for family, template in FAMILIES.items():
        write_model(folder / family, document, template=template)
    return {family: Pair(folder / family) for family in FAMILIES}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_rendering_is_the_librarys(pairs: dict[str, Pair], family: str, conversation: str) -> None:
    """Every family renders every conversation to the same text, or refuses it as the library."""
    pair, messages = pairs[family], CONVERSATIONS[conversation]

    before = pair.expected_text(messages)
    text = pair.text(messages)

    assert text in (before, pair.expected_text(messages))  # midnight may be between them


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_have_the_librarys_ids(pairs: dict[str, Pair], family: str) -> None:
    """The ids of whole prompts agree too, special tokens of the template included."""
    pair = pairs[family]
    messages = CONVERSATIONS["no system"]

    ids = pair.oracle.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    assert pair.model.prompt_renderer().render(messages) == ids


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_renders_and_refuses_something(pairs: dict[str, Pair], family: str) -> None:
    """The conversations reach both ends of a template, so that agreement says something."""
    texts = [pairs[family].expected_text(messages) for messages in CONVERSATIONS.values()]

    rendered = [text for text in texts if text is not None]
    assert len(set(rendered)) > len(CONVERSATIONS) / 3
    assert family in {"llama3", "macros", "qwen3", "generation"} or None in texts


turns = st.tuples(
    st.sampled_from(["system", "user", "assistant"]),
    st.text(max_size=12) | st.sampled_from(["{{ x }}", "{% endif %}", "</think>", " <|im_end|>\n"]),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(family=st.sampled_from(list(FAMILIES)), said=st.lists(turns, min_size=1, max_size=5))
def test_any_conversation_renders_as_in_the_library(
    pairs: dict[str, Pair], family: str, said: list[tuple[str, str]]
) -> None:
    """So do conversations that nobody thought of."""
    messages = [{"role": role, "content": content} for role, content in said]

    before = pairs[family].expected_text(messages)

    assert pairs[family].text(messages) in (before, pairs[family].expected_text(messages))


@pytest.fixture(scope="module")
def default_pair() -> Pair:
    """The default model, from the cache folder."""
    return Pair(resolve_model(DEFAULT_MODEL.name))


@pytest.mark.model
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_default_model_renders_as_in_the_library(default_pair: Pair, conversation: str) -> None:
    """The default model's own template and special tokens give the library's text."""
    messages = CONVERSATIONS[conversation]

    assert default_pair.text(messages) == default_pair.expected_text(messages)
