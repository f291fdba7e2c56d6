"""Forms: the questions of a registration or an agreement, and whether an answer is one."""

import zoneinfo
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import pycountry
from pydantic import Field, model_validator

from cloister.core.errors import Invalid
from cloister.spaces.declared import Declared


class BadAnswer(Invalid):
    """An answer in a form is missing or wrong."""

    code = "registration.bad_answer"


class FormField(Declared):
    """One question of a form."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
    type: Literal["text", "choice", "country", "time-zone", "affiliation", "checkbox", "consent"]
    label: Annotated[str, Field(min_length=1, max_length=300)]
    help: str = ""
    required: bool = True
    options: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _options_for_choice(self) -> Self:
        if (self.type == "choice") != bool(self.options):
            message = "options belong to a field of type choice, and it needs them"
            raise ValueError(message)
        return self

    def check(self, answer: object) -> object:
        """Return a valid answer, or None where there is none and none is needed.

        Raises:
            BadAnswer: with the field's name.
        """
        missing = answer is None or (isinstance(answer, str) and not answer.strip())
        if self.type == "consent":
            if answer is not True and self.required:
                raise BadAnswer(f"“{self.label}” needs your consent.", field=self.name)
            return answer is True
        if self.type == "checkbox":
            if not isinstance(answer, bool | None):
                raise BadAnswer(f"“{self.label}” is answered with true or false.", field=self.name)
            return bool(answer)
        if missing:
            if self.required:
                raise BadAnswer(f"“{self.label}” needs an answer.", field=self.name)
            return None
        if not isinstance(answer, str) or len(answer) > 500 or not answer.isprintable():
            raise BadAnswer(f"“{self.label}” is answered with a text of at most 500 characters.", field=self.name)
        return self._check_text(answer.strip())

    def _check_text(self, text: str) -> str:
        if self.type == "choice" and text not in self.options:
            raise BadAnswer(f"“{self.label}” is one of: {', '.join(self.options)}.", field=self.name)
        if self.type == "country":
            country = pycountry.countries.get(alpha_2=text.upper())
            if country is None:
                raise BadAnswer(f"“{text}” is no country code (ISO 3166, two letters).", field=self.name)
            return str(country.alpha_2)
        if self.type == "time-zone" and text not in zoneinfo.available_timezones():
            raise BadAnswer(f"“{text}” is no time zone; an example is Europe/Lisbon.", field=self.name)
        return text


def check_answers(questions: Sequence[FormField], answers: dict[str, Any]) -> dict[str, Any]:
    """Validate a filled-in form: an answer for each of its questions, and no others.

    Raises:
        BadAnswer: naming the field.
    """
    known = {field.name for field in questions}
    for name in answers:
        if name not in known:
            raise BadAnswer(f"“{name[:60]}” is no field of this form.", field=name[:60])
    return {field.name: field.check(answers.get(field.name)) for field in questions}
