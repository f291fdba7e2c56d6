"""What people write, as HTML that can do nothing: no script, no style, no picture from elsewhere. Pure."""

import nh3
from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
MAX_CHARACTERS = 200_000
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def to_html(markdown: str) -> str:
    """Render Markdown. Raw HTML in it is shown as text; pictures become nothing, since a viewer's address is private.

    Headings begin at the second level: the first is the page's that shows it.
    """
    tokens = _MARKDOWN.parse(markdown[:MAX_CHARACTERS])
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return nh3.clean(
        html, tags=_TAGS, attributes={"a": {"href"}}, url_schemes={"https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )  # fmt: skip
