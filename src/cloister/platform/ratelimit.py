"""Rate limits by token bucket, in memory: they slow guessing, and a restart forgives."""

import time
from collections import OrderedDict
from collections.abc import Callable

from cloister.core.errors import TooManyRequests

MAX_KEYS = 100_000


class RateLimit:
    """At most ``per_minute`` for each key, in bursts of as many."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._burst = float(per_minute)
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Take one.

        Raises:
            TooManyRequests: when none is left; says how many seconds to wait.
        """
        now = self._now()
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        if left < 1:
            self._buckets[key] = (left, now)
            raise TooManyRequests(retry_after=max(1, round((1 - left) / self._rate)))
        self._buckets[key] = (left - 1, now)
        while len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Have one back that was taken and should not count."""
        left, then = self._buckets.get(key, (self._burst, self._now()))
        self._buckets[key] = (min(self._burst, left + 1), then)
