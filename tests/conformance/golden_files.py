"""Recorded transcripts: compared with, or, where a run asks for it, written anew."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class GoldenFiles:
    """The records; `is_update` writes instead of comparing."""

    is_update: bool

    def compare(self, name: str, transcript: bytes) -> None:
        """Fail where the transcript is not the one on record."""
        file = FOLDER / name
        if self.is_update:
            FOLDER.mkdir(exist_ok=True)
            file.write_bytes(transcript)
        assert file.exists(), f"{name} is not on record: see --update-golden"
        assert file.read_bytes().splitlines() == transcript.splitlines()
        assert file.read_bytes() == transcript
