"""Answers as bytes, made once: fragments by the value they show, whole answers by what was asked and their index.

An instance, a node and a check are values that never change, so their JSON is kept beside them. What many watchers of
one service are told is rendered for the first of them only. All are caches of bounded size; losing an entry costs
time, never an answer. Rights are checked by whoever asks the Reader for an index; an actor with rules of its own gets
answers made for it alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from townhall.core.queries import Reader
from townhall.face.consul.blocking import encode
from townhall.face.consul.picture import DerivedCheck, Picture
from townhall.face.consul.shapes import catalog_service, check_object, health_service, node_object
from townhall.model import limits
from townhall.model.check import Check, CheckStatus, Node
from townhall.model.instance import Instance

__all__ = ["Rendering", "array"]


class Rendering:
    """The rendered forms of one registry's catalogue in Consul's words."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.site = picture.site
        self._fragments: OrderedDict[tuple[object, ...], tuple[object, bytes]] = OrderedDict()
        self._answers: OrderedDict[Hashable, tuple[int, bytes]] = OrderedDict()

    # --- what is kept

    def answer(self, reader: Reader, name: Hashable, index: int, make: Callable[[], bytes]) -> bytes:
        """What ``make`` gives, kept for as long as the index stays."""
        if reader.state.access_enabled or reader.actor.restricted:
            return make()
        kept = self._answers.get(name)
        if kept is not None and kept[0] == index:
            return kept[1]
        data = make()
        if len(data) <= limits.ANSWER_CACHED_SIZE_MAX:
            if len(self._answers) >= limits.ANSWERS_CACHED_MAX:
                self._answers.popitem(last=False)
            self._answers[name] = (index, data)
        return data

    def _fragment(self, name: tuple[object, ...], shown: object, make: Callable[[], Any]) -> bytes:
        kept = self._fragments.get(name)
        if kept is not None:
            return kept[1]
        data = encode(make())
        if len(self._fragments) >= limits.FRAGMENTS_CACHED_MAX:
            self._fragments.popitem(last=False)
        # The values shown are kept with their bytes, so that their identities cannot pass to others.
        self._fragments[name] = (shown, data)
        return data

    # --- fragments

    def node(self, node: Node) -> bytes:
        """A node."""
        return self._fragment(("n", id(node)), node, lambda: node_object(node, self.site))

    def service(self, instance: Instance) -> bytes:
        """A service as health answers show it."""
        return self._fragment(("s", id(instance)), instance, lambda: health_service(instance, self.site))

    def catalog_row(self, node: Node, instance: Instance) -> bytes:
        """A service as the catalogue shows it."""
        return self._fragment(
            ("c", id(node), id(instance)), (node, instance), lambda: catalog_service(node, instance, self.site)
        )

    def check(self, check: Check, instance: Instance | None) -> bytes:
        """A check."""
        # A derived check is a function of its instance, and made anew for each look at it.
        name = ("d", id(instance), check.id) if isinstance(check, DerivedCheck) else ("k", id(check), id(instance))
        return self._fragment(name, (check, instance), lambda: check_object(check, instance, self.site))

    # --- rows

    def health_row(self, reader: Reader, instance: Instance, *, passing: bool) -> bytes | None:
        """An instance with its node and checks; None when it is left out."""
        picture = self.picture
        checks = picture.checks_for(reader, instance)
        if passing and any(check.status is not CheckStatus.PASSING for check in checks):
            return None
        node = picture.node(reader, instance.node)
        if node is None:
            return None
        shown = b",".join([self.check(check, instance if check.key is not None else None) for check in checks])
        return b'{"Node":%b,"Service":%b,"Checks":[%b]}' % (self.node(node), self.service(instance), shown)


def array(rows: Iterable[bytes]) -> bytes:
    """A JSON array of rendered rows."""
    return b"[%b]" % b",".join(rows)
