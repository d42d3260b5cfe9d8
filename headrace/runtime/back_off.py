"""How long to wait before something that ended is started again."""


class BackOff:
    """The sooner it ended, the longer: at once at first, then from 0.1 s twice as long each time.

    Waits are bounded by `most_seconds`; what ran for `well_seconds` begins anew.
    """

    def __init__(self, *, most_seconds: float = 30.0, well_seconds: float = 60.0) -> None:
        self._most_seconds = most_seconds
        self._well_seconds = well_seconds
        self._next_seconds = 0.0

    def seconds_after(self, ran_seconds: float) -> float:
        """The wait after an end that came so many seconds after the start."""
        wait = 0.0 if ran_seconds > self._well_seconds else self._next_seconds
        self._next_seconds = min(max(0.1, 2 * wait), self._most_seconds)
        return wait
