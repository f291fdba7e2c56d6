"""The small picture by which a dashboard is known in lists: its own, or one that is drawn of where its widgets are.

What is drawn shows the pictures of modules, never their data: a list of dashboards is no way round a grant.
"""

import base64
from collections.abc import Mapping
from html import escape

from cloister.dashboards.document import COLUMNS, Document

WIDTH, HEIGHT = 320, 200
ROW = 0.9 * WIDTH / COLUMNS
"""The height of a row on a screen of usual width, beside that of a column."""
MAX_DRAWN = 24
"""Of the widgets in sight: a picture of more is no longer one."""
HEADERS = {
    "Cache-Control": "private, max-age=600",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}

Picture = tuple[str, bytes]
"""A media type, and the content."""


def drawn(document: Document, pictures: Mapping[str, Picture]) -> Picture:
    """An SVG of the top of a dashboard; ``pictures`` are those of the modules that its widgets are."""
    column = WIDTH / COLUMNS
    seen = sorted((widget for widget in document.widgets if widget.y * ROW < HEIGHT), key=lambda w: (w.y, w.x))[
        :MAX_DRAWN
    ]
    right = max((widget.x + widget.width for widget in seen), default=COLUMNS) * column
    bottom = min(HEIGHT, max((widget.y + widget.height for widget in seen), default=0) * ROW)
    across = max(right, bottom * WIDTH / HEIGHT, WIDTH / 2)  # a dashboard of few widgets is seen from nearer
    down = across * HEIGHT / WIDTH
    ground = escape(document.background or "#eef1f5", quote=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:.1f} {down:.1f}">',
        f'<rect width="{across:.1f}" height="{down:.1f}" fill="{ground}"/>',
    ]
    for widget in seen:
        x, y = widget.x * column + 2, widget.y * ROW + 2
        width, height = widget.width * column - 4, widget.height * ROW - 4
        at = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        parts.append(f'<rect {at} rx="3" fill="#fff" stroke="#8a97a8" stroke-opacity=".35"/>')
        kind, content = pictures.get(widget.module, ("", b""))
        if content:
            data = f"data:{kind};base64,{base64.b64encode(content).decode()}"
            wide = max(width, height * WIDTH / HEIGHT)  # it covers all of it, as modules' pictures have this shape, too
            tall = wide * HEIGHT / WIDTH
            inside = (
                f'x="{(width - wide) / 2:.1f}" y="{(height - tall) / 2:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
            )
            parts.append(f'<svg {at}><image {inside} opacity=".9" href="{data}"/></svg>')
    parts.append("</svg>")
    return "image/svg+xml", "".join(parts).encode()


def own(document: Document) -> Picture | None:
    """The picture that somebody gave it."""
    if not document.thumbnail:
        return None
    head, _, data = document.thumbnail.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data)
