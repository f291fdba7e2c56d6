"""The pictures by which dashboards are known."""

import base64
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloister.dashboards.document import COLUMNS, Document
from cloister.dashboards.pictures import MAX_DRAWN, drawn, own

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG tiny").decode()


@st.composite
def documents(draw):
    widgets = []
    for number in range(draw(st.integers(0, 40))):
        x = draw(st.integers(0, COLUMNS - 1))
        place = {
            "x": x,
            "y": draw(st.integers(0, 1000)),
            "width": draw(st.integers(1, COLUMNS - x)),
            "height": draw(st.integers(1, 100)),
        }
        widgets.append(
            {"id": f"w{number}", "module": draw(st.sampled_from(["bar", "gone"])), "title": '"><script>', **place}
        )
    return Document.model_validate(
        {"name": "A board", "background": draw(st.sampled_from(["", "#123456"])), "widgets": widgets}
    )


@given(documents())
def test_whatever_a_dashboard_holds_its_picture_is_well_formed_and_bounded(document):
    kind, content = drawn(document, {"bar": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>")})
    root = ElementTree.fromstring(content)  # noqa: S314  (our own)
    assert kind == "image/svg+xml"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) <= MAX_DRAWN
    assert b"script" not in content


def test_the_picture_that_was_given_is_the_one_that_is_shown():
    assert own(Document(name="A board")) is None
    assert own(Document(name="A board", thumbnail=PNG)) == ("image/png", b"\x89PNG tiny")


@pytest.mark.parametrize(
    "text",
    [
        "https://elsewhere.example/a.png",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,AAA",
        PNG + "\n",
    ],
)
def test_what_is_no_picture_is_refused(text):
    with pytest.raises(ValidationError):
        Document(name="A board", thumbnail=text)
