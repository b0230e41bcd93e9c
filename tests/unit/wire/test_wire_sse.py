from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from townhall.wire import sse


def parse(data: bytes) -> list[tuple[str, str, str]]:
    """(event, data, last id) as a browser sees them (WHATWG HTML §9.2.6)."""
    found = []
    name, held, last = "", [], ""
    text = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        if not line:
            if held:
                found.append((name or "message", "\n".join(held), last))
            name, held = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                held.append(value)
            elif field == "id":
                last = value
    return found


def test_an_event() -> None:
    assert sse.event("delta", b'{"a":1}') == b'event: delta\ndata: {"a":1}\n\n'
    assert sse.identified(sse.event("x", b""), 7) == b"id: 7\nevent: x\ndata: \n\n"


def test_an_id_stays_in_force() -> None:
    stream = sse.identified(sse.event("a", b"1"), 5) + sse.HEARTBEAT + sse.event("b", b"2")
    assert parse(stream) == [("a", "1", "5"), ("b", "2", "5")]


def test_comments_cannot_become_fields() -> None:
    assert sse.HEARTBEAT == b": hb\n\n"
    assert parse(sse.comment("x\ndata: y\r\n\rz")) == []


@given(st.text())
def test_data_of_any_kind_arrives(text: str) -> None:
    arrived = parse(sse.event("e", text.encode("utf-8", "replace")))
    wanted = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert arrived == [("e", wanted, "")]
