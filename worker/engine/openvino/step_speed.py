"""How fast steps are, as measured, and how many prompt tokens therefore fit in the next one.

A step's time is taken as that of its decoding sequences plus a price for each prompt token. Both
follow what is measured: prices rise with the context, and other work on the machine slows all.
Steps come in a coarse grain of sizes, since each size has kernels of its own (`kernel_cache`).
"""

_WEIGHT = 0.3  # of a new measurement against all before it
_GRAIN_TOKENS = 32
_FEWEST_TOKENS = 32  # steps with fewer prompt tokens say little about the price of one


class StepSpeed:
    """Moving averages over the steps of one engine."""

    def __init__(self, target_seconds: float, max_tokens: int) -> None:
        self._target_seconds = target_seconds
        self._max_tokens = max_tokens
        self._decode_seconds: dict[int, float] = {}  # by the bit length of the number decoding
        self._token_seconds: float | None = None

    def observe(self, num_decoding: int, num_prefill_tokens: int, seconds: float) -> None:
        """Take in a step that decoded so many sequences and read so many prompt tokens."""
        if not num_prefill_tokens:
            bucket = num_decoding.bit_length()
            self._decode_seconds[bucket] = _moved(self._decode_seconds.get(bucket), seconds)
        elif num_prefill_tokens >= _FEWEST_TOKENS:
            rest = max(seconds - self._expected_decode_seconds(num_decoding), 0.0)
            self._token_seconds = _moved(self._token_seconds, rest / num_prefill_tokens)

    def prefill_tokens(self, num_decoding: int) -> int:
        """Prompt tokens for the next step: the maximum while nothing decodes.

        Else what keeps the step within the target, but always some, so that prompts get on; the
        step's tokens in all are then a multiple of the grain.
        """
        if not num_decoding or not self._token_seconds:
            return self._max_tokens
        room = self._target_seconds - self._expected_decode_seconds(num_decoding)
        whole_step = num_decoding + max(int(room / self._token_seconds), _FEWEST_TOKENS)
        num_tokens = whole_step - whole_step % _GRAIN_TOKENS - num_decoding
        return min(max(num_tokens, _FEWEST_TOKENS), self._max_tokens)

    def _expected_decode_seconds(self, num_decoding: int) -> float:
        """That of the nearest number measured, the lower one first; 0 before any."""
        if not num_decoding or not self._decode_seconds:
            return 0.0
        bucket = num_decoding.bit_length()
        nearest = min(self._decode_seconds, key=lambda known: (abs(known - bucket), known))
        return self._decode_seconds[nearest]


def _moved(average: float | None, value: float) -> float:
    return value if average is None else average + _WEIGHT * (value - average)
