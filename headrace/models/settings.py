"""Where model directories are kept; table [models] of the settings file, read by every service."""

from pathlib import Path

from headrace.runtime.settings import SettingsGroup


class ModelsSettings(SettingsGroup):
    """Where models are kept."""

    cache_dir: Path = Path("~/.cache/headrace/models")
    """Folder that holds one model directory per name; `~` is the user's home."""
