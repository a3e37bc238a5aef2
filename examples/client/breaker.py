"""A circuit breaker: who does not answer is left alone for a while, then asked once.

What belongs here: when one may ask, pure and with the time given. What does not: asking.
"""

from __future__ import annotations


class Breaker:
    """Opens after ``failures`` in a row; then one question every ``seconds`` until one is answered.

    The pause doubles with each such question that fails, up to ``most_seconds``.
    """

    __slots__ = ("_failed", "_failures", "_most", "_pause", "_probing", "_seconds", "_until")

    def __init__(self, *, failures: int = 5, seconds: float = 1.0, most_seconds: float = 30.0) -> None:
        if failures < 1 or not 0 < seconds <= most_seconds:
            raise ValueError("at least one failure and 0 < seconds <= most_seconds are needed")
        self._failures = failures
        self._seconds = seconds
        self._most = most_seconds
        self._failed = 0
        self._pause = seconds
        self._until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether it has opened, and no answer has come since."""
        return self._failed >= self._failures

    def may_ask(self, now: float) -> bool:
        """Return whether one may ask now; where it is open, True is for one caller only until the pause has passed."""
        if not self.is_open:
            return True
        if now < self._until:
            return False
        # Should nothing be heard of this one, another may ask after the same pause.
        self._until, self._probing = now + self._pause, True
        return True

    def answered(self) -> None:
        """Count an answer: it closes."""
        self._failed, self._pause, self._probing = 0, self._seconds, False

    def failed(self, now: float) -> None:
        """Count a failure; those of questions that were under way when it opened change nothing."""
        if not self.is_open:
            self._failed += 1
            if self.is_open:
                self._until = now + self._pause
        elif self._probing:
            self._pause = min(2 * self._pause, self._most)
            self._until, self._probing = now + self._pause, False
