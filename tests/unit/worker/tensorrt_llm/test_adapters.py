"""LoRA adapters: what their files say is checked before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from headrace.runtime.errors import StartError
from tests.support.lora_adapters import write_adapter
from worker.engine.tensorrt_llm.adapters import adapter_numbers, lora_values, read_adapters
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings


def _settings(bounds: dict[str, Any] | None = None, **paths: Path) -> TensorRtLlmSettings:
    table = {name: {"path": path} for name, path in paths.items()}
    return TensorRtLlmSettings(lora=bounds or {}, lora_adapters=table)


def test_numbers_are_the_names_own() -> None:
    """Above 0, unlike each other, and the same beside other adapters."""
    names = [f"adapter-{index}" for index in range(500)]
    numbers = adapter_numbers(names)

    assert len(set(numbers.values())) == 500
    assert all(0 < number < 1 << 31 for number in numbers.values())
    assert adapter_numbers(["adapter-7"])["adapter-7"] == numbers["adapter-7"]


def test_two_names_of_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one takes the next that is free, at the end the first of all."""
    monkeypatch.setattr("worker.engine.tensorrt_llm.adapters._HIGHEST_NUMBER", 3)
    numbers = adapter_numbers(["a", "b", "c"])

    assert sorted(numbers.values()) == [1, 2, 3]


def test_what_the_library_is_told(tmp_path: Path) -> None:
    """All modules of all adapters, what attends as a whole, and places for each adapter."""
    sql = write_adapter(tmp_path / "sql", rank=16, modules=("q_proj", "down_proj"))
    tone = write_adapter(tmp_path / "tone", rank_pattern={"o_proj": 32}, modules=("o_proj",))
    settings = _settings({"max_rank": 32, "max_gpu_adapters": 1}, sql=sql, tone=tone)
    adapters = read_adapters(settings, "base")

    assert [(one.name, one.path) for one in adapters] == [("sql", sql), ("tone", tone)]
    assert lora_values(adapters, settings.lora) == {
        "lora_target_modules": ["attn_dense", "attn_k", "attn_q", "attn_v", "mlp_4h_to_h"],
        "max_lora_rank": 32,
        "max_loras": 1,
        "max_cpu_loras": 2,
    }


def test_modules_that_the_operator_names(tmp_path: Path) -> None:
    """They stand for those of the files, which may be such as nobody here knows."""
    odd = write_adapter(tmp_path / "odd", modules=("router",))
    settings = _settings({"target_modules": ("moe_router",), "max_host_adapters": 9}, odd=odd)
    values = lora_values(read_adapters(settings, "base"), settings.lora)

    assert values["lora_target_modules"] == ["moe_router"]
    assert (values["max_loras"], values["max_cpu_loras"]) == (1, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 65}, "`sql` has rank 65; lora.max_rank is 64"),
        ({"rank_pattern": {"q_proj": 128}}, "has rank 128; lora.max_rank is 64"),
        ({"r": None}, "gives no rank"),
        ({"r": 0}, "gives no rank"),
        ({"modules_to_save": ["lm_head"]}, "has modules_to_save, without which"),
        ({"use_dora": True}, "has use_dora, without which"),
        ({"peft_type": "LOHA"}, "its peft_type is LOHA"),
        ({"target_modules": "all-linear"}, "lists no target_modules"),
        ({"target_modules": ["q_proj", "lm_head"]}, "changes lm_head, whose name"),
    ],
)
def test_an_adapter_that_cannot_be_served(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    """One sentence names the adapter, and the bound with its value."""
    sql = write_adapter(tmp_path / "sql", **{"rank": 8, **config})
    with pytest.raises(StartError, match=message):
        read_adapters(_settings(sql=sql), "base")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Folder, weights and configuration, each by its path; one that is no JSON too."""
    with pytest.raises(StartError, match="sql is no directory"):
        read_adapters(_settings(sql=tmp_path / "sql"), "base")
    sql = write_adapter(tmp_path / "sql")
    (sql / "adapter_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(StartError, match=r"adapter_config\.json cannot be read"):
        read_adapters(_settings(sql=sql), "base")
    (sql / "adapter_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(StartError, match="does not hold a JSON object"):
        read_adapters(_settings(sql=sql), "base")
    (sql / "adapter_model.safetensors").unlink()
    with pytest.raises(StartError, match=r"has no adapter_model\.safetensors"):
        read_adapters(_settings(sql=sql), "base")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    """Beside the safe form too: it could be the one that is read."""
    sql = write_adapter(tmp_path / "sql")
    (sql / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(StartError, match=r"has adapter_model\.bin, a pickle"):
        read_adapters(_settings(sql=sql), "base")


def test_the_base_models_own_name(tmp_path: Path) -> None:
    """A request could not say which of the two it means."""
    with pytest.raises(StartError, match="`base` is the base model's own served name"):
        read_adapters(_settings(base=write_adapter(tmp_path / "base")), "base")
