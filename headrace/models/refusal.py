"""What says that a model cannot be served."""

from headrace.runtime.errors import StartError


class UnservableError(StartError):
    """A model is refused at import; the message is one sentence that says why."""
