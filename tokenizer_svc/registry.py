"""The models that this service knows, by served name and fingerprint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from headrace.common.v1 import errors_pb2
from headrace.models.directory import DEFAULT, TOOL_USE, ModelDirectory, read_chat_templates
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from headrace.tokenizer.v1.render_pb2 import Decoder
from tokenizer_svc.chat_template import ChatTemplate, special_token_variables
from tokenizer_svc.encoding import TextEncoder
from tokenizer_svc.formats.catalog import TEXT, FormatCatalog, OutputFormat
from tokenizer_svc.formats.detection import detected_format
from tokenizer_svc.guides.checking import GuideChecker
from tokenizer_svc.prompt_renderer import PromptRenderer
from tokenizer_svc.prompt_templates import PromptTemplates
from tokenizer_svc.settings import TokenizerSettings
from tokenizer_svc.template_budget import RenderBounds
from tokenizer_svc.vocabulary import Vocabulary, read_vocabulary

# What a caller asks for who wants the model's own format.
MODELS_OWN_FORMAT = "model"
_PROMPT_END_TOKENS = 16


@dataclass(frozen=True, slots=True)
class TokenizerModel:
    """One model: what its files say, and the ways from text to ids and back.

    `renderer` is None where the model has no chat template. `output_format` is the name of the
    format in which it writes.
    """

    directory: ModelDirectory
    vocabulary: Vocabulary
    encoder: TextEncoder
    renderer: PromptRenderer | None
    output_format: str = TEXT

    @classmethod
    def load(cls, directory: ModelDirectory, settings: TokenizerSettings) -> Self:
        """Read a model directory; takes about a second. Raises StartError."""
        tokenizer_json = directory.path / "tokenizer.json"
        vocabulary = read_vocabulary(tokenizer_json, directory.vocabulary_size)
        encoder = TextEncoder(_read_json(tokenizer_json))
        sources = read_chat_templates(directory.path)
        templates = _templates(directory, sources, settings)
        renderer = None
        if templates is not None:
            policy = settings.special_tokens_in_content
            renderer = PromptRenderer(templates, encoder, directory.context_length, policy)
        output_format = settings.output_formats.get(directory.name)
        if output_format is None:
            known = [sources[name] for name in (DEFAULT, TOOL_USE) if name in sources]
            output_format = detected_format("\n".join(known), encoder.marks)
        return cls(directory, vocabulary, encoder, renderer, output_format)

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of the special tokens by their text."""
        found = self.vocabulary.special_bytes.items()
        return {raw.decode("utf-8", "replace"): token_id for token_id, raw in found}

    def decoder(self) -> Decoder:
        """How answers of this model become text, all of it content."""
        return Decoder(
            model=self.directory.name,
            tokenizer_fingerprint=self.directory.tokenizer_fingerprint,
            stop_token_ids=sorted(self.directory.end_token_ids),
            output_format=TEXT,
        )

    def formatted_decoder(self, output_format: OutputFormat, prompt: Sequence[int]) -> Decoder:
        """How the answer to this prompt is read in a format."""
        if output_format.name == TEXT:
            return self.decoder()
        end = self.vocabulary.decode(prompt[-_PROMPT_END_TOKENS:], keep_special_tokens=True)
        output_format = output_format.behind(end)
        decoder = self.decoder()
        decoder.output_format = output_format.name
        decoder.begins_in_reasoning = output_format.begins_in_reasoning(end)
        return decoder

    def prompt_renderer(self) -> PromptRenderer:
        """The renderer. Raises ServiceError where the model has no chat template."""
        if self.renderer is None:
            message = f"The model `{self.directory.name}` has no chat template."
            raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="model")
        return self.renderer


class ModelRegistry:
    """The models by served name, the default first, and the formats in which they may write.

    Raises StartError for two models of one name, and for one whose format is not known.
    """

    def __init__(
        self, models: Sequence[TokenizerModel], formats: FormatCatalog | None = None
    ) -> None:
        self._formats = formats or FormatCatalog()
        self.guides = GuideChecker()
        self._models = {model.directory.name: model for model in models}
        if len(self._models) < len(models):
            names = sorted(model.directory.name for model in models)
            raise StartError(f"two models have the same served name: {', '.join(names)}")
        self._default = models[0].directory.name
        for model in models:
            if self._formats.find(model.output_format) is None:
                raise StartError(
                    f"output_formats: `{model.directory.name}` has `{model.output_format}`; known "
                    f"are {', '.join(self._formats.names)}"
                )

    @property
    def names(self) -> list[str]:
        """All served names, the default first."""
        return list(self._models)

    def find(self, name: str) -> TokenizerModel:
        """The model of that name, the default for an empty one. Raises ServiceError."""
        model = self._models.get(name or self._default)
        if model is None:
            message = f"The model `{name}` does not exist."
            raise ServiceError(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, message, param="model")
        return model

    def decoding(self, decoder: Decoder) -> TokenizerModel:
        """The model that a decoder's description names.

        Raises ServiceError: INCOMPATIBLE_PEER where the tokenizer here is another one,
        UNSUPPORTED_PARAMETER for an output format that is not known.
        """
        model = self.find(decoder.model)
        here = model.directory.tokenizer_fingerprint
        if decoder.tokenizer_fingerprint != here:
            message = (
                f"The tokenizer of `{model.directory.name}` has fingerprint {here} here; "
                f"the request names {decoder.tokenizer_fingerprint or 'none'}."
            )
            raise ServiceError(errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER, message)
        if decoder.output_format != TEXT:
            self.find_format(decoder.output_format)
        return model

    def answer_format(self, model: TokenizerModel, asked: str, *, has_tools: bool) -> OutputFormat:
        """How an answer is read where `asked` is a format's name or `model`.

        Raises ServiceError, naming output_format, for a name that is not known, and for a format
        without calls where there are tools.
        """
        if asked == MODELS_OWN_FORMAT:
            own = self.find_format(model.output_format)
            return self._formats.with_calls(own) if has_tools else own.without_calls()
        found = self.find_format(asked)
        if has_tools and not found.has_calls:
            message = f"output_format is `{asked}`, which has no calls; with tools one is needed."
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="output_format"
            )
        return found

    def check_thinking(self, model: TokenizerModel, wanted: bool, *, has_tools: bool) -> None:  # noqa: FBT001 (a value)
        """Raises ServiceError, naming thinking, where the model cannot do as is wanted."""
        if model.prompt_renderer().can_switch_thinking(has_tools=has_tools):
            return
        thinks = self.find_format(model.output_format).thoughts is not None
        if wanted == thinks:
            return
        name = model.directory.name
        message = (
            f"The model `{name}` does not think."
            if wanted
            else f"The model `{name}` always thinks: its chat template has no switch for it."
        )
        raise ServiceError(errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, message, param="thinking")

    def find_format(self, name: str) -> OutputFormat:
        """The output format of that name. Raises ServiceError where it is not known."""
        found = self._formats.find(name)
        if found is None:
            known = ", ".join(self._formats.names)
            message = f"output_format is `{name}`; known are {known}, and thoughts+calls of them."
            raise ServiceError(
                errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, message, param="output_format"
            )
        return found


def _templates(
    directory: ModelDirectory, sources: Mapping[str, str], settings: TokenizerSettings
) -> PromptTemplates | None:
    if DEFAULT not in sources:
        return None
    config = directory.path / "tokenizer_config.json"
    variables = special_token_variables(_read_json(config) if config.is_file() else {})
    limits = settings.template
    bounds = RenderBounds(limits.max_seconds, limits.max_characters, limits.max_bytes)
    default = ChatTemplate(sources[DEFAULT], variables, bounds)
    if TOOL_USE not in sources:
        return PromptTemplates(default)
    return PromptTemplates(default, ChatTemplate(sources[TOOL_USE], variables, bounds))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise StartError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StartError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise StartError(f"{file} does not hold a JSON object")
    return value
