"""Ids of tool calls. They are minted where calls are handed to a caller; no model writes them."""

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_NUM_CHARACTERS = 24


def mint_call_id() -> str:
    """A new id in OpenAI's form: `call_` and 24 letters or digits."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(_NUM_CHARACTERS))
