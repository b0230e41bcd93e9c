"""Who has been sent and has acknowledged what."""

from __future__ import annotations

from townhall.core.live import Subscriber
from townhall.hub.subscribers import Subscribers
from townhall.model.instance import ServiceKey

WEB = ServiceKey("default", "default", "web")
API = ServiceKey("default", "default", "api")


def table() -> tuple[Subscribers, list[ServiceKey]]:
    changed: list[ServiceKey] = []
    return Subscribers(changed.append), changed


def someone(id_: str, *, explicit: bool = False) -> Subscriber:
    return Subscriber(id_, f"name of {id_}", "127.0.0.1:1", "native", 5, explicit=explicit)


def test_what_was_sent_counts_as_acknowledged_by_those_that_cannot_say() -> None:
    subscribers, changed = table()
    row = subscribers.add(someone("a"), [WEB, API])
    row.sent({WEB: 7})
    (entry,) = subscribers.of(WEB)
    assert (entry.sent, entry.acked, entry.explicit) == (7, 7, False)
    assert subscribers.of(API)[0].sent == 0
    assert changed == [WEB]


def test_an_explicit_subscriber_acknowledges_by_itself() -> None:
    subscribers, changed = table()
    row = subscribers.add(someone("a", explicit=True), [WEB])
    row.sent({WEB: 7})
    assert (subscribers.of(WEB)[0].sent, subscribers.of(WEB)[0].acked) == (7, 0)
    assert [entry.id for entry in subscribers.behind(WEB, 7)] == ["a"]
    assert subscribers.acknowledge("a", {WEB: 7, API: 3})
    assert subscribers.behind(WEB, 7) == []
    assert changed == [WEB]


def test_acknowledging_once_makes_it_explicit() -> None:
    subscribers, _ = table()
    row = subscribers.add(someone("a"), [WEB])
    row.sent({WEB: 3})
    subscribers.acknowledge("a", {WEB: 3})
    row.sent({WEB: 9})
    assert (subscribers.of(WEB)[0].sent, subscribers.of(WEB)[0].acked) == (9, 3)


def test_numbers_never_go_back() -> None:
    subscribers, changed = table()
    row = subscribers.add(someone("a"), [WEB])
    row.sent({WEB: 9})
    row.sent({WEB: 4})
    subscribers.acknowledge("a", {WEB: 2})
    entry = subscribers.of(WEB)[0]
    assert (entry.sent, entry.acked) == (9, 9)
    assert changed == [WEB]


def test_plain_tuples_name_services_too() -> None:
    subscribers, _ = table()
    row = subscribers.add(someone("a"), [tuple(WEB)])  # type: ignore[list-item]
    row.sent({("default", "default", "web"): 2})
    assert subscribers.of(WEB)[0].sent == 2


def test_leaving_tells_those_who_wait_for_acknowledgements() -> None:
    subscribers, changed = table()
    row = subscribers.add(someone("a", explicit=True), [WEB])
    row.close()
    row.close()
    assert changed == [WEB]
    assert subscribers.of(WEB) == []
    assert subscribers.count(WEB) == len(subscribers) == 0
    assert not subscribers.acknowledge("a", {WEB: 1})


def test_a_client_that_reconnects_before_its_old_stream_is_gone() -> None:
    subscribers, _ = table()
    old = subscribers.add(someone("a", explicit=True), [WEB])
    subscribers.add(someone("a", explicit=True), [WEB])
    assert subscribers.count(WEB) == 2
    subscribers.acknowledge("a", {WEB: 5})
    assert subscribers.behind(WEB, 5) == []
    old.close()
    assert subscribers.count(WEB) == 1
    assert subscribers.acknowledge("a", {WEB: 6})


def test_the_table_keeps_its_own_rows() -> None:
    subscribers, _ = table()
    given = someone("a")
    subscribers.add(given, [WEB]).sent({WEB: 4})
    assert given.sent == 0
