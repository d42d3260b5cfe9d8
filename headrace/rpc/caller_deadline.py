"""Whether it was a deadline that ended a call, where all that is seen is that its caller left.

A caller keeps its own deadline and cancels, as it does when it loses interest. Its deadline comes
before the one that the server knows: gRPC rounds a timeout up to three digits on its way, and the
server counts from the arrival.
"""

from typing import Final

_ROUNDED_PART: Final = 0.01
_ON_THE_WAY_SECONDS: Final = 0.05
"""What a call's way and busy threads at both ends may take."""


def is_past_callers_deadline(remaining_seconds: float, allowed_seconds: float) -> bool:
    """Whether a caller that leaves now does so, as far as one can tell, since its time ran out.

    `remaining_seconds` of `allowed_seconds`, those at the call's begin, are left by the server's
    clock; the former may be negative.
    """
    return remaining_seconds <= _ON_THE_WAY_SECONDS + _ROUNDED_PART * allowed_seconds
