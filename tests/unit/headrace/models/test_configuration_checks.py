from pathlib import Path

import pytest

from headrace.models.configuration_checks import NEEDED_FILES, check_configuration, check_layout
from headrace.models.refusal import UnservableError
from tests.unit.headrace.models.model_folders import CONFIG, write_folder


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"sliding_window": None},
        {"sliding_window": 8},
        {"sliding_window": 4, "use_sliding_window": False},
        {"sliding_window": 4, "layer_types": ["full_attention"]},
        {"num_local_experts": 1},
        {"is_encoder_decoder": False},
    ],
)
def test_dense_decoders_with_full_attention_are_taken(config: dict[str, object]) -> None:
    """A window that is switched off, or as long as the context, is none."""
    check_configuration(CONFIG | config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sliding_window": 4}, r"sliding-window attention \(sliding_window is 4\)"),
        ({"sliding_window": 4, "use_sliding_window": True}, "sliding-window attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "type sliding_attention"),
        ({"layer_types": ["linear_attention"]}, "linear_attention cannot be served"),
        ({"num_experts": 8}, r"mixture of experts \(num_experts is 8\)"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"n_routed_experts": 64}, "mixture of experts"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
    ],
)
def test_other_architectures_are_refused(config: dict[str, object], message: str) -> None:
    """The sentence names the entry; a nested text_config counts alike."""
    for document in (CONFIG | config, {"text_config": CONFIG | config}):
        with pytest.raises(UnservableError, match=message):
            check_configuration(document)


@pytest.mark.parametrize("name", NEEDED_FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """Configuration, tokenizer, graph and weights have to be there."""
    folder = write_folder(tmp_path / "m")
    check_layout(folder)
    (folder / name).unlink()

    with pytest.raises(UnservableError, match=f"{name} is missing"):
        check_layout(folder)


def test_a_missing_template_is_told(tmp_path: Path) -> None:
    """Without a chat template there are no chat completions."""
    folder = write_folder(tmp_path / "m")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UnservableError, match="has no chat template"):
        check_layout(folder)

    (folder / "chat_template.jinja").write_text("{{ messages }}")
    check_layout(folder)
