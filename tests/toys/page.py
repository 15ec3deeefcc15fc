"""Reading a page, and what a stranger may have put into it."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'
VOID = {"meta", "input", "img", "link", "br", "hr"}


class Reader(HTMLParser):
    """What is in a page: its elements with attributes, who stands in whom, and its text without
    scripts.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.data: list[tuple[str, str]] = []
        self.way: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes), tuple(self.way)))
        if tag not in VOID:
            self.way.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.way.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data.append((self.way[-1] if self.way else "", data))

    @property
    def text(self) -> str:
        return " ".join(data for tag, data in self.data if tag not in ("script", "style"))

    def tags(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]
