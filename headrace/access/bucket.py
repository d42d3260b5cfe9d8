"""A bound per minute as a bucket that is refilled continuously: arithmetic, with a clock passed in.

What a request will use is not known when it begins, so it is held: taken at once, and the rest
given back when the use is known. The invariant is level + what may still be given back <= bound, so
that whatever is asked and settled in whichever order, the requests that begin in any window of t
seconds use at most bound + bound * t / 60, beyond which only their own excess over what they held
goes. A hold that is older than its bucket's refilling is therefore worth less: oldest first.
"""

from collections import OrderedDict

_MINUTE_SECONDS = 60.0
_NOTHING = 1e-6
"""Less than this is the last bits of floats."""


class Hold:
    """An amount taken from a bucket, not all of which need be used."""

    __slots__ = ("amount", "refundable")

    def __init__(self, amount: float) -> None:
        self.amount = amount
        self.refundable = amount


class Bucket:
    """What is left of a bound per minute; begins full. Times are seconds of one monotonic clock."""

    def __init__(self, bound: int, now: float) -> None:
        self.bound = bound
        self._level = float(bound)
        self._at = now
        # Those that may still give back, the oldest first; the values say nothing.
        self._holds: OrderedDict[Hold, None] = OrderedDict()
        self._held = 0.0

    def level(self, now: float) -> float:
        """What may be taken; below zero where more was used than was held."""
        self._refill(now)
        return self._level

    def hold(self, amount: float, now: float) -> Hold:
        """Take an amount; `settle` it exactly once. Whether it is there is the caller's to ask."""
        self._refill(now)
        hold = Hold(amount)
        self._level -= amount
        self._holds[hold] = None
        self._held += amount
        return hold

    def settle(self, hold: Hold, used: float, now: float) -> None:
        """End a hold: give back what was not used, or take what was used beyond it."""
        self._refill(now)
        self._holds.pop(hold, None)
        self._held = self._held - hold.refundable if self._holds else 0.0
        unused = hold.amount - used
        self._level += min(unused, hold.refundable)

    def seconds_until(self, amount: float, now: float) -> float:
        """How long until an amount is there, if nothing else is taken; 0 where it is there."""
        self._refill(now)
        return max(0.0, amount - self._level) * _MINUTE_SECONDS / self.bound

    def resize(self, bound: int, now: float) -> None:
        """Change the bound; what was taken of the old one is taken of the new one."""
        self._refill(now)
        self._level += bound - self.bound
        self.bound = bound
        self._clip()

    def _refill(self, now: float) -> None:
        elapsed = now - self._at
        if elapsed > 0:
            self._at = now
            self._level += self.bound * elapsed / _MINUTE_SECONDS
            self._clip()

    def _clip(self) -> None:
        """Restore the invariant; each hold is emptied once, so it costs nothing in the long run."""
        self._level = min(self._level, float(self.bound))
        excess = self._level + self._held - self.bound
        while excess > 0 and self._holds:
            oldest = next(iter(self._holds))
            lost = min(excess, oldest.refundable)
            oldest.refundable -= lost
            self._held -= lost
            excess -= lost
            if oldest.refundable < _NOTHING:
                del self._holds[oldest]
                self._held -= oldest.refundable
                oldest.refundable = 0.0
