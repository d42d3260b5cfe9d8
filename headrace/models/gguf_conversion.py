"""Turn a GGUF file into a model directory; a program of its own.

`python -m headrace.models.gguf_conversion FILE.gguf FOLDER`, run as a child process so that no
service loads the converters. The JSON files depend on the GGUF's metadata alone, byte for byte: the
tokenizer's fingerprint is the same on every machine, whatever library versions it has. The weights
are written by OpenVINO GenAI, in the GGUF's own quantisation.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import openvino_genai

from headrace.models.child_program import refusing
from headrace.models.gguf_checks import (
    ARCHITECTURES,
    ROTARY_FACTORS,
    GgufTensor,
    check_graph,
    check_vocabulary,
    head_size,
)
from headrace.models.gguf_tokenizer import (
    Metadata,
    check_tokenizer,
    tokenizer_object,
    tokenizer_settings,
)
from headrace.models.refusal import UnservableError
from headrace.models.rotary_frequencies import correct_rotary_frequencies


def convert(source: Path, folder: Path) -> None:
    """Write tokenizer, configuration and weights of `source` into `folder`, which must exist.

    Raises UnservableError for a file that is no GGUF or cannot be served.
    """
    reader = _opened(source)
    tensors = {tensor.name: _described(tensor) for tensor in reader.tensors}
    # No native code reads a file that has not been checked.
    check_graph(_metadata(reader, of_arrays=False), tensors)
    # Reading the metadata takes Python seconds, the weights take the library as long: side by side.
    with ThreadPoolExecutor(max_workers=1) as pool:
        weights = pool.submit(_write_weights, source, folder)
        metadata = _metadata(reader, of_arrays=True)
        check_tokenizer(metadata)
        check_vocabulary(len(metadata["tokenizer.ggml.tokens"]), tensors)
        _write(folder / "tokenizer.json", tokenizer_object(metadata))
        _write(folder / "tokenizer_config.json", tokenizer_settings(metadata))
        config = model_config(metadata, is_tied="output.weight" not in tensors)
        _write(folder / "config.json", config)
        _write(folder / "generation_config.json", generation_config(metadata))
        weights.result()
    factors = next((item.data for item in reader.tensors if item.name == ROTARY_FACTORS), None)
    correct_rotary_frequencies(folder, config["rope_theta"], head_size(metadata), factors)


def _opened(source: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(source)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise UnservableError(f"it is no readable GGUF file: {error}") from error


def _metadata(reader: gguf.GGUFReader, *, of_arrays: bool) -> dict[str, Any]:
    array = gguf.GGUFValueType.ARRAY
    return {
        key: field.contents()
        for key, field in reader.fields.items()
        if of_arrays or field.types[:1] != [array]
    }


def _described(tensor: gguf.ReaderTensor) -> GgufTensor:
    # GGUF gives the length of a row first.
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return GgufTensor(shape, tensor.tensor_type.name)


def model_config(metadata: Metadata, *, is_tied: bool) -> dict[str, Any]:
    """config.json: the architecture in Hugging Face's terms."""
    family = metadata["general.architecture"]
    heads = metadata[f"{family}.attention.head_count"]
    size = head_size(metadata)
    config = {
        "architectures": [ARCHITECTURES[family]],
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": metadata[f"{family}.embedding_length"],
        "intermediate_size": metadata[f"{family}.feed_forward_length"],
        "max_position_embeddings": metadata[f"{family}.context_length"],
        "model_type": family,
        "num_attention_heads": heads,
        "num_hidden_layers": metadata[f"{family}.block_count"],
        "num_key_value_heads": metadata.get(f"{family}.attention.head_count_kv", heads),
        "rms_norm_eps": metadata[f"{family}.attention.layer_norm_rms_epsilon"],
        "rope_theta": metadata.get(f"{family}.rope.freq_base", 10000.0),
        "tie_word_embeddings": is_tied,
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
    }
    if size * heads != config["hidden_size"]:
        config["head_dim"] = size
    return {key: value for key, value in config.items() if value is not None}


def generation_config(metadata: Metadata) -> dict[str, Any]:
    """generation_config.json: the special ids that generation needs.

    Where a turn ends with another token than a text does, both end an answer.
    """
    end: int = metadata["tokenizer.ggml.eos_token_id"]
    end_of_turn: int = metadata.get("tokenizer.ggml.eot_token_id", end)
    config = {
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": end if end_of_turn == end else [end, end_of_turn],
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
    }
    return {key: value for key, value in config.items() if value is not None}


def _write_weights(source: Path, folder: Path) -> None:
    """The library writes beside its input: give it a link in `folder`, and keep only the model."""
    link = folder / "weights.gguf"
    link.symlink_to(source.resolve())
    try:
        openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
    except RuntimeError as error:
        raise UnservableError(f"OpenVINO GenAI cannot read it: {error}") from error
    link.unlink()
    for stem in ("openvino_tokenizer", "openvino_detokenizer"):
        for suffix in (".xml", ".bin"):
            (folder / f"{stem}{suffix}").unlink(missing_ok=True)


def _write(target: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(refusing(lambda: convert(Path(sys.argv[1]), Path(sys.argv[2]))))
