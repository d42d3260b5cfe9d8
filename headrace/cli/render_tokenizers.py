"""What `headrace render` asks of tokenizers wherever they are, and models read in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.models.cache import list_models, resolve_model
from headrace.models.directory import open_model_directory
from headrace.tokenizer.v1.render_pb2 import RenderRequest, RenderResponse
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.rendering import Rendering
from tokenizer_svc.settings import LimitSettings, TokenizerSettings


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model; the context is in tokens."""

    name: str
    context_length: int
    tokenizer_fingerprint: str


class Tokenizer(Protocol):
    """One model's tokenizer."""

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""

    async def render(self, request: RenderRequest) -> RenderResponse:
        """A conversation to prompt ids. Raises ServiceError."""

    async def decode(self, token_ids: Sequence[int], *, keep_special_tokens: bool) -> str:
        """Ids to text. Raises ServiceError."""


class TokenizerHost(Protocol):
    """All models of one place."""

    @property
    def names(self) -> Sequence[str]:
        """The models' names, the default first."""

    def knows(self, name: str) -> bool:
        """Whether `open` takes the name."""

    async def open(self, name: str) -> Tokenizer:
        """One model. Raises StartError where there is none, ServiceError for a refusal."""


class LocalHost:
    """Model directories of this machine, read when they are asked for."""

    def __init__(self, settings: TokenizerSettings, cache_dir: Path) -> None:
        self._settings = settings
        self._cache_dir = cache_dir
        cached = [entry.path.name for entry in list_models(cache_dir)]
        configured = {Path(model).name: model for model in settings.models}
        self._sources = configured | {name: name for name in cached if name not in configured}

    @property
    def names(self) -> Sequence[str]:
        """Those of the settings, then the cache folder's."""
        return list(self._sources)

    def knows(self, name: str) -> bool:
        """Whether it is one of the names, or a folder."""
        return name in self._sources or ("/" in name and Path(name).expanduser().is_dir())

    async def open(self, name: str) -> Tokenizer:
        """Read the model's files; takes about a second. Raises StartError."""
        directory = open_model_directory(
            resolve_model(self._sources.get(name, name), self._cache_dir)
        )
        model = TokenizerModel.load(directory, self._settings)
        return LocalTokenizer(model, self._settings.limits)


class LocalTokenizer:
    """A model in this process."""

    def __init__(self, model: TokenizerModel, limits: LimitSettings) -> None:
        self._model = model
        self._registry = ModelRegistry([model], FormatCatalog.installed())
        self._limits = limits

    @property
    def facts(self) -> ModelFacts:
        """What its files say."""
        directory = self._model.directory
        return ModelFacts(directory.name, directory.context_length, directory.tokenizer_fingerprint)

    async def render(self, request: RenderRequest) -> RenderResponse:
        """As the service answers it. Raises ServiceError."""
        return Rendering.prepare(self._registry, self._model, request, self._limits).run()

    async def decode(self, token_ids: Sequence[int], *, keep_special_tokens: bool) -> str:
        """As the service decodes."""
        return self._model.vocabulary.decode(token_ids, keep_special_tokens=keep_special_tokens)
