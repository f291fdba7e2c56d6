"""Letters say the same in each language, and something is filled in at each place."""

from datetime import UTC, datetime
from string import Formatter
from types import SimpleNamespace

import pytest

from cloister.core.clock import Clock
from cloister.platform import letters
from cloister.platform.letters import LETTERS, PHRASES, Phrase, write_letter


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("name", [*LETTERS, *PHRASES])
def test_each_language_has_every_text_with_the_same_places_to_fill(name):
    texts = {**LETTERS, **PHRASES}[name]
    assert set(texts) == {"en", "de"}
    english, german = (places("".join(text)) for text in (texts["en"], texts["de"]))
    assert english == german


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "you are in: Rain until 05 March 2027. Your team is t-7."),
        ("de", "Sie sind dabei: Rain bis 5. März 2027. Ihr Team ist t-7."),
    ],
)
def test_a_letter_is_in_the_language_of_whom_it_is_to(language, said, monkeypatch):
    sent = []
    monkeypatch.setattr(letters, "queue_letter", lambda *_, **letter: sent.append(letter))
    person = SimpleNamespace(name="{Ada}", email="ada@test.example", language=language)
    facts = {
        "title": "Rain",
        "number": "p-1",
        "link": "https://c.example/s/rain",
        "team": Phrase("in_team", {"team": "t-7"}),
    }
    until = Phrase("until", {"day": datetime(2027, 3, 5, tzinfo=UTC)})
    write_letter(None, Clock(), person, "welcome", until=until, **facts)
    assert said in sent[0]["text"]
    assert "{Ada}" in sent[0]["text"], "what people call themselves is no place to fill"
    write_letter(
        None, Clock(), SimpleNamespace(name="x", email=None, language=language), "welcome", until=until, **facts
    )
    assert len(sent) == 1, "nobody writes to who has no address"
