"""Where model directories are kept; table [models] of the settings file, read by every service."""

from pathlib import Path

from headrace.models.cache import DEFAULT_CACHE_DIR
from headrace.runtime.settings import SettingsGroup


class ModelsSettings(SettingsGroup):
    """Where models are kept."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder that holds one model directory per name; `~` is the user's home."""
