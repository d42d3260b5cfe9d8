"""Model directories that need no files."""

from pathlib import Path

from headrace.models.directory import ModelDirectory

END_TOKEN = 2


def fake_model(name: str = "tiny", fingerprint: str = "f" * 32) -> ModelDirectory:
    """A model that only the paced engine can serve: 50,000 ids, 4,096 tokens of context."""
    return ModelDirectory(
        path=Path("/nonexistent"),
        name=name,
        context_length=4096,
        end_token_ids=frozenset({END_TOKEN}),
        vocabulary_size=50_000,
        tokenizer_fingerprint=fingerprint,
    )
