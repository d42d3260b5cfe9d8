"""What stops a process before it serves."""


class StartError(Exception):
    """A service cannot start or go on; the message is one clear sentence for the operator."""
