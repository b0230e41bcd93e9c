"""The contract of soft state: what it offers, and what a subscriber looks like when it has just come."""

from __future__ import annotations

from townhall.core.live import Live, Subscriber


def test_what_handlers_may_ask_for():
    offered = {name for name in vars(Live) if not name.startswith("_")}
    assert {"renew", "deadline", "report", "subscribers", "acknowledge", "view", "status"} <= offered


def test_a_new_subscriber_has_seen_nothing():
    subscriber = Subscriber("s1", "shop", "127.0.0.1:5000", "native", 1_000)
    assert (subscriber.sent, subscriber.acked, subscriber.explicit) == (0, 0, False)
