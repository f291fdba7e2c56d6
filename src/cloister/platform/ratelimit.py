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

    def check(self, key: str) -> None:
        """Look whether one is left, and take none.

        Raises:
            TooManyRequests: when none is.
        """
        left, then = self._buckets.get(key, (self._burst, self._now()))
        left += (self._now() - then) * self._rate
        if left < 1:
            raise TooManyRequests(retry_after=max(1, round((1 - left) / self._rate)))
