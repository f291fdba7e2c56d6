"""Every letter that the platform writes, in each language: subject and text. A new one is not complete without both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from cloister.core.clock import Clock
from cloister.platform.database import UnitOfWork
from cloister.platform.mail import queue_letter

Language: TypeAlias = Literal["en", "de"]
_GREETING: dict[Language, str] = {"en": "Hello {name},\n\n", "de": "Guten Tag {name},\n\n"}
LetterName: TypeAlias = Literal[
    "confirm", "welcome", "over", "export_waits", "export_stuck", "export_approved", "export_refused"
]
LETTERS: dict[LetterName, dict[Language, tuple[str, str]]] = {
    "confirm": {
        "en": (
            "Confirm your address",
            (
                "open this link, signed in, to confirm that this address is yours:\n\n{link}\n\n"
                "It is good for a day. If you did not sign in here, do nothing.\n"
            ),
        ),
        "de": (
            "Bestätigen Sie Ihre Adresse",
            (
                "öffnen Sie diesen Link, während Sie angemeldet sind, um zu bestätigen, dass diese Adresse Ihre ist:\n\n{link}\n\n"
                "Er gilt einen Tag. Wenn Sie sich hier nicht angemeldet haben, tun Sie nichts.\n"
            ),
        ),
    },
    "welcome": {
        "en": ("Welcome to {title}", "you are in: {title}{until}.{team}\nYour number here is {number}.\n\n{link}\n"),
        "de": (
            "Willkommen bei {title}",
            "Sie sind dabei: {title}{until}.{team}\nIhre Nummer hier ist {number}.\n\n{link}\n",
        ),
    },
    "over": {
        "en": (
            "Your time in {title} is over",
            "your access to {title} has ended. Your files are kept. Register again to come back to them:\n\n{link}\n",
        ),
        "de": (
            "Ihre Zeit in {title} ist um",
            "Ihr Zugang zu {title} ist zu Ende. Ihre Dateien bleiben. Melden Sie sich neu an, um weiterzumachen:\n\n{link}\n",
        ),
    },
    "export_waits": {
        "en": (
            "Files wait for your review in {title}",
            "team {team} ({asker}) asks to take {count} file(s) out of {title}. Look at them here:\n\n{link}\n",
        ),
        "de": (
            "In {title} warten Dateien auf Ihre Prüfung",
            "Team {team} ({asker}) bittet darum, {count} Datei(en) aus {title} mitzunehmen. Sehen Sie sie hier an:\n\n{link}\n",
        ),
    },
    "export_stuck": {
        "en": (
            "Nobody may decide on an export from {title}",
            (
                "team {team} ({asker}) asks to take {count} file(s) out of {title}. Only a steward or reviewer who is not in that "
                "team may decide, and there is none. Appoint somebody here:\n\n{link}\n"
            ),
        ),
        "de": (
            "Über einen Export aus {title} darf niemand entscheiden",
            (
                "Team {team} ({asker}) bittet darum, {count} Datei(en) aus {title} mitzunehmen. Entscheiden darf nur, wer Daten "
                "verwaltet oder prüft und nicht in diesem Team ist, und da ist niemand. Ernennen Sie hier jemanden:\n\n{link}\n"
            ),
        ),
    },
    "export_approved": {
        "en": (
            "Your export from {title}: approved",
            "the files that you asked to take out of {title} may leave: you can download them now.{because}\n\n{link}\n",
        ),
        "de": (
            "Ihr Export aus {title}: genehmigt",
            (
                "die Dateien, die Sie aus {title} mitnehmen wollten, dürfen hinaus: Sie können sie jetzt herunterladen.{because}"
                "\n\n{link}\n"
            ),
        ),
    },
    "export_refused": {
        "en": (
            "Your export from {title}: refused",
            "the files that you asked to take out of {title} may not leave.{because}\n\n{link}\n",
        ),
        "de": (
            "Ihr Export aus {title}: abgelehnt",
            "die Dateien, die Sie aus {title} mitnehmen wollten, dürfen nicht hinaus.{because}\n\n{link}\n",
        ),
    },
}
PHRASES: dict[str, dict[Language, str]] = {
    "because": {"en": "\n\nThe reviewer wrote: {reason}", "de": "\n\nBei der Prüfung hieß es: {reason}"},
    "until": {"en": " until {day}", "de": " bis {day}"},
    "in_team": {"en": " Your team is {team}.", "de": " Ihr Team ist {team}."},
    "no_team": {
        "en": " Make or join a team to start.",
        "de": " Gründen Sie ein Team, oder treten Sie einem bei, um zu beginnen.",
    },
}
"""Parts of letters that are there or not."""

_MONTHS = (
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
)


class Addressee(Protocol):
    """Whoever a letter is written to."""

    name: str
    email: str | None
    language: str


@dataclass(frozen=True)
class Phrase:
    """One of `PHRASES`, with what is to be filled in; or nothing."""

    name: str | None = None
    facts: Mapping[str, "Fact"] = field(default_factory=dict)


Fact: TypeAlias = str | int | datetime | Phrase


def write_letter(uow: UnitOfWork, clock: Clock, to: Addressee, letter: LetterName, **facts: Fact) -> None:
    """Write one of `LETTERS` to somebody in their language; to nobody when they have no address."""
    if not to.email:
        return
    language: Language = "de" if to.language == "de" else "en"
    subject, text = LETTERS[letter][language]
    filled = {"name": to.name, **{name: _say(fact, language) for name, fact in facts.items()}}
    subject, text = subject.format_map(filled), (_GREETING[language] + text).format_map(filled)
    queue_letter(uow, clock, to=to.email, subject=subject, text=text)


def _say(fact: Fact, language: Language) -> str:
    match fact:
        case Phrase(name=None):
            return ""
        case Phrase(name=str(name), facts=facts):
            return PHRASES[name][language].format_map({key: _say(one, language) for key, one in facts.items()})
        case datetime():
            return f"{fact.day}. {_MONTHS[fact.month - 1]} {fact.year}" if language == "de" else f"{fact:%d %B %Y}"
    return str(fact)
