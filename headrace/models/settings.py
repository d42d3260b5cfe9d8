"""Where model directories come from and are kept; table [models] of the file, read by all."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from headrace.models.cache import DEFAULT_CACHE_DIR
from headrace.runtime.settings import SettingsGroup


class ModelsSettings(SettingsGroup):
    """Where models come from and are kept."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder that holds one model directory per name; `~` is the user's home."""
    hub_endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#]+[^?#]*$")] = (
        "https://huggingface.co"
    )
    """Server of hub ids for `headrace model pull`; plain http on loopback only."""
    download_timeout_seconds: Annotated[float, Field(ge=1, le=600)] = 30.0
    """How long a server may say nothing while a model is pulled."""
