from __future__ import annotations

import re
from html.parser import HTMLParser

from townhall.face.native import NativeFace
from townhall.face.native.openapi import document
from townhall.face.native.page import page

VOID = {"meta", "br"}


class Nesting(HTMLParser):
    """Fails on tags that do not close in order; collects ids and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.links.add(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    text = page(document(NativeFace("1.2.3").operations, "1.2.3"))
    parser = Nesting()
    parser.feed(text)
    assert parser.open == []
    assert {link.removeprefix("#") for link in parser.links} <= parser.ids
    assert not re.search(r"<script|https?://|@import|url\(", text)
    assert "1.2.3" in text


def test_texts_are_escaped() -> None:
    shown = document(NativeFace("<b>").operations, '<script>"')
    assert "<script>" not in page(shown)


def test_what_stands_between_backticks_is_code() -> None:
    assert "<code>X-Townhall-Token</code>" in page(document(NativeFace("1").operations, "1"))
