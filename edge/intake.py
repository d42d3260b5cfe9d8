"""From a request's body to what a model is asked: document, profile, validation, model."""

from dataclasses import dataclass

from aiohttp import web

from edge.openai.chat_request import ChatRequest, RequestRules, read_chat_request
from edge.openai.document import parse_document
from edge.openai.model_fit import fit_to_model
from edge.openai.models import ModelCatalog
from edge.openai.profile import Profile
from edge.profiles import ProfileBook
from edge.request_scope import RequestScope
from edge.settings import EdgeSettings
from headrace.client.answers import ChatBackend, ServedModel
from headrace.client.prompt_request import PromptRequest


@dataclass(frozen=True, slots=True)
class Intake:
    """A request that its model can serve, and the profile that its answer follows."""

    chat: ChatRequest
    model: ServedModel
    profile: Profile

    def prompt_request(self) -> PromptRequest:
        """What tokenizer_svc makes the prompt of."""
        return self.chat.prompt_request(self.model.name)

    @property
    def shown_model(self) -> str:
        """The name that answers give."""
        resolved = self.profile.model_echo == "resolved"
        return self.model.name if resolved else self.chat.model


class IntakeDesk:
    """Reads chat completion requests by the operator's profiles, aliases and bounds."""

    def __init__(self, backend: ChatBackend, settings: EdgeSettings) -> None:
        self._backend = backend
        self._limits = settings.limits
        self._catalog = ModelCatalog(settings.aliases)
        self._profiles = ProfileBook(settings.profiles, settings.hosts)

    def take(self, request: web.Request, scope: RequestScope, body: bytes) -> Intake:
        """Validate a body; the scope learns what its log line says of it.

        Raises ServiceError: invalid_request, unsupported_parameter, model_not_found,
        no_worker_available.
        """
        document = parse_document(body)
        models = self._backend.models
        alias = self._catalog.alias_of(document.get("model"), models)
        scope.profile, profile = self._profiles.choose(
            scope.caller.profile,
            request.host,
            None if alias is None else alias.profile,
            request.path,
        )
        rules = RequestRules(profile, self._limits, None if alias is None else alias.max_tokens)
        chat = read_chat_request(document, rules)
        model = self._catalog.find(chat.model, models, scope.caller)
        chat = fit_to_model(chat, model, rules)
        scope.model, scope.is_stream, scope.labels = model.name, chat.stream, _labels(chat)
        return Intake(chat, model, profile)


def _labels(chat: ChatRequest) -> dict[str, object]:
    """What the log line says of the request beside its counts: never content."""
    labels: dict[str, object] = {
        "user": _cut(chat.user),
        "safety_identifier": _cut(chat.safety_identifier),
        "store": chat.store or None,
        "num_metadata": chat.num_metadata or None,
        "num_tools": len(chat.tools) or None,
        "tool_choice": _choice_label(chat) if chat.tools else None,
        "ignored": list(map(_cut, chat.ignored[:_MAX_LOGGED])) or None,
        "clamped": dict(chat.clamped) or None,
    }
    return {name: value for name, value in labels.items() if value is not None}


def _choice_label(chat: ChatRequest) -> str:
    """The kind of the choice; names of functions are the client's own matter."""
    if chat.shape.is_named:
        return "named"
    return "required" if chat.tool_choice.required else "auto"


_MAX_LOGGED = 32
_MAX_LOGGED_CHARACTERS = 128


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_MAX_LOGGED_CHARACTERS]
