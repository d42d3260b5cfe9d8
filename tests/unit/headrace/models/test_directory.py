import json
from pathlib import Path

import pytest

from headrace.models.directory import (
    open_model_directory,
    read_chat_template,
    read_chat_templates,
    tokenizer_fingerprint,
)
from headrace.runtime.errors import StartError

CONFIG = {"max_position_embeddings": 128, "vocab_size": 40, "eos_token_id": 7}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "config.json", CONFIG)
    write(tmp_path, "tokenizer.json", {"model": {}})
    write(tmp_path, "tokenizer_config.json", {"chat_template": "{{ x }}", "eos_token": "<e>"})
    return tmp_path


def write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def test_reads_context_vocabulary_and_name(folder: Path) -> None:
    """Counts come from config.json, the served name from the folder unless one is given."""
    model = open_model_directory(folder)

    assert (model.context_length, model.vocabulary_size, model.name) == (128, 40, folder.name)
    assert open_model_directory(folder, "mine").name == "mine"


@pytest.mark.parametrize(("value", "expected"), [(2, {2}), ([2, 5], {2, 5}), (None, {7})])
def test_generation_config_decides_the_end_tokens(
    folder: Path, value: object, expected: set[int]
) -> None:
    """One id or a list in generation_config.json wins; without one config.json counts."""
    write(folder, "generation_config.json", {} if value is None else {"eos_token_id": value})

    assert open_model_directory(folder).end_token_ids == expected


@pytest.mark.parametrize("value", [None, [], "2", [2, "x"], -1, True])
def test_a_bad_end_token_is_refused(folder: Path, value: object) -> None:
    """A model that cannot end is refused with the value that it gives."""
    write(folder, "config.json", CONFIG | {"eos_token_id": value})

    with pytest.raises(StartError, match="eos_token_id"):
        open_model_directory(folder)


def test_text_config_of_a_multimodal_model_counts(folder: Path) -> None:
    """Where config.json nests the language model, its values are read."""
    write(folder, "config.json", {"text_config": CONFIG})

    assert open_model_directory(folder).context_length == 128


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """A directory without one of the two files that every model has is refused by that name."""
    (folder / name).unlink()

    with pytest.raises(StartError, match=f"{name} is missing"):
        open_model_directory(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[]", "does not hold a JSON object"),
        ("config.json", '{"text_config": 3}', "text_config is not an object"),
        ("config.json", '{"vocab_size": 3}', "max_position_embeddings must be a positive integer"),
        ("config.json", '{"max_position_embeddings": 8, "vocab_size": 0}', "vocab_size must"),
        ("tokenizer_config.json", '{"chat_template": 3}', "chat_template is not text"),
    ],
)
def test_a_malformed_file_is_named(folder: Path, name: str, text: str, message: str) -> None:
    """Each malformed file is one sentence that names file and entry."""
    write(folder, "generation_config.json", {"eos_token_id": 7})
    (folder / name).write_text(text)

    with pytest.raises(StartError, match=message) as caught:
        open_model_directory(folder)
    assert name in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path that does not exist is refused by that path."""
    with pytest.raises(StartError, match="nowhere does not exist"):
        open_model_directory(tmp_path / "nowhere")


def test_the_template_file_wins_over_the_configuration(folder: Path) -> None:
    """chat_template.jinja is the newer place and counts before tokenizer_config.json."""
    (folder / "chat_template.jinja").write_text("file")

    assert read_chat_template(folder) == "file"


def test_the_default_of_several_templates_counts(folder: Path) -> None:
    """Of a list of templates the one named default is taken."""
    several = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    write(folder, "tokenizer_config.json", {"chat_template": several})

    assert read_chat_template(folder) == "d"


def test_all_named_templates_are_read(folder: Path) -> None:
    """From the list in tokenizer_config.json, or beside the template file, as transformers does."""
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    write(folder, "tokenizer_config.json", {"chat_template": several})
    assert read_chat_templates(folder) == {"default": "d", "tool_use": "t"}

    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("more")
    assert read_chat_templates(folder) == {"default": "d", "tool_use": "more"}

    (folder / "chat_template.jinja").write_text("file")
    (folder / "additional_chat_templates" / "tool_use.jinja").unlink()
    assert read_chat_templates(folder) == {"default": "file"}


@pytest.mark.parametrize("value", [{"default": "d"}, 1, [{"name": "tool_use", "template": None}]])
def test_a_template_that_is_no_text_is_refused(folder: Path, value: object) -> None:
    """Whichever of them it is."""
    write(folder, "tokenizer_config.json", {"chat_template": value})

    with pytest.raises(StartError, match="chat_template is not text"):
        read_chat_templates(folder)


def test_the_fingerprint_follows_every_template(folder: Path) -> None:
    """A template for tools, its text and its name are all part of it."""
    more = folder / "additional_chat_templates"
    more.mkdir()
    seen = {tokenizer_fingerprint(folder)}
    (more / "tool_use.jinja").write_text("one")
    seen.add(tokenizer_fingerprint(folder))
    (more / "tool_use.jinja").write_text("two")
    seen.add(tokenizer_fingerprint(folder))
    (more / "tool_use.jinja").rename(more / "rag.jinja")
    seen.add(tokenizer_fingerprint(folder))

    assert len(seen) == 4


def test_a_template_that_is_not_utf8_is_refused(folder: Path) -> None:
    """A template with broken bytes is refused, not patched."""
    (folder / "chat_template.jinja").write_bytes(b"\xff")

    with pytest.raises(StartError, match="not UTF-8"):
        read_chat_template(folder)


def test_the_fingerprint_is_the_same_for_ever(folder: Path) -> None:
    """The fingerprint of given files is a constant: old and new builds agree on it."""
    assert tokenizer_fingerprint(folder) == "d8a03cb5b945f2305d2a417b47c0ce08"


def test_the_fingerprint_ignores_what_does_not_tokenize(folder: Path) -> None:
    """Key order, class names and weights leave the fingerprint alone."""
    before = tokenizer_fingerprint(folder)
    settings = {"eos_token": "<e>", "chat_template": "{{ x }}", "tokenizer_class": "Any"}
    write(folder, "tokenizer_config.json", settings)
    write(folder, "config.json", {})

    assert tokenizer_fingerprint(folder) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", '{"model": {} }'),
        ("tokenizer_config.json", '{"chat_template": "{{ y }}", "eos_token": "<e>"}'),
        ("tokenizer_config.json", '{"chat_template": "{{ x }}", "eos_token": "<f>"}'),
        ("chat_template.jinja", "{{ x }} "),
    ],
)
def test_the_fingerprint_follows_what_tokenizes(folder: Path, name: str, text: str) -> None:
    """A change of vocabulary, template or special token changes the fingerprint."""
    before = tokenizer_fingerprint(folder)
    (folder / name).write_text(text)

    assert tokenizer_fingerprint(folder) != before
