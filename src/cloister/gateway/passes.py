"""Words by which a request that Caddy hands over is known to be of somebody who was just let in."""

import secrets
from time import monotonic

from cloister.gateway.decision import Asked

PASS_SECONDS = 20.0


class Passes:
    """One for each asker at a time; their cookie does not come with a request, since it never goes to an app.

    A pass says who asks, not that they may: that is decided again when it is shown.
    """

    def __init__(self) -> None:
        self._askers: dict[str, tuple[Asked, float]] = {}
        self._words: dict[Asked, str] = {}
        self._swept = monotonic()

    def give(self, asked: Asked) -> tuple[str, float]:
        """A word, and until when (``monotonic``) it may be given again: half its time is left then to show it."""
        now, half = monotonic(), PASS_SECONDS / 2
        if now - self._swept > PASS_SECONDS:
            self._sweep(now)
        word = self._words.get(asked, "")
        until = self._askers[word][1] if word else 0.0
        if until - half <= now:
            word, until = secrets.token_urlsafe(24), now + PASS_SECONDS
            self._words[asked] = word
            self._askers[word] = (asked, until)
        return word, until - half

    def asker(self, word: str) -> Asked | None:
        """Whose it is, if it still counts."""
        asked, until = self._askers.get(word, (None, 0.0))
        return None if until < monotonic() else asked

    def _sweep(self, now: float) -> None:
        self._swept = now
        self._askers = {word: kept for word, kept in self._askers.items() if kept[1] > now}
        self._words = {asked: word for asked, word in self._words.items() if word in self._askers}
