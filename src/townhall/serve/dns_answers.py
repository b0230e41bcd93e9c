"""From a query's bytes to its answer's bytes, with rendered answers kept while they hold.

An answer in random order is kept in ``DNS_VARIANTS_COUNT`` shufflings, which are served in turn; after every
``DNS_VARIANT_USES_MAX`` answers the oldest of them makes room for a new one. So neighbouring clients see different
orders, no instance is preferred in the long run, and nearly all queries cost a dictionary look-up.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, NamedTuple

from townhall.face.dns import Asked, Resolution
from townhall.face.dns.sizes import allowance, fit
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import Malformed, Unauthenticated
from townhall.wire.dns import FORMERR, SERVFAIL, Message, Query, Question, header_of, parse_query, render

if TYPE_CHECKING:
    from townhall.core import View
    from townhall.face.dns.answering import DnsFace
    from townhall.hub import Hub
    from townhall.serve.dns_options import DnsCounters

__all__ = ["Answers", "Forward"]

_log = logging.getLogger(__name__)


class Forward(NamedTuple):
    """A query that a recursor must be asked about."""

    query: Query
    question: Question
    """What to ask: the question itself, or where its alias leads."""
    resolution: Resolution | None = None
    """The alias that the recursor's answer is to be added to; None when all is to be passed on."""


class _Kept:
    """Rendered answers to one query; ``view`` says how long they hold."""

    __slots__ = ("served", "variants", "view", "wanted")

    def __init__(self, view: View, wanted: int) -> None:
        self.view = view
        self.wanted = wanted
        self.variants: list[bytes] = []
        self.served = 0


class Answers:
    """Answers queries for both transports of a server."""

    def __init__(self, face: DnsFace, hub: Hub, counters: DnsCounters, *, token: str = "") -> None:
        self.face = face
        self._hub = hub
        self._counters = counters
        self._token = token
        self._random = random.Random()  # noqa: S311 - it spreads load, nothing more
        # Two generations: what is used moves to the young one, and the old one is dropped whole.
        self._young: dict[bytes, _Kept] = {}
        self._old: dict[bytes, _Kept] = {}

    def reply(self, data: bytes, *, tcp: bool) -> bytes | Forward | None:
        """The answer's bytes, what to ask a recursor, or None for what gets no answer at all."""
        name = (b"t" if tcp else b"u") + data[2:]
        kept = self._young.get(name) or self._revive(name)
        if kept is not None:
            if not kept.view.fresh:
                self._young.pop(name, None)
            elif len(kept.variants) == kept.wanted:
                served = kept.served = kept.served + 1
                if kept.wanted == 1 or served % limits.DNS_VARIANT_USES_MAX:
                    self._counters.cached += 1
                    return data[:2] + kept.variants[served % kept.wanted]
                del kept.variants[0]
        try:
            return self._answer(data, name, tcp)
        except Exception:
            self._counters.errors += 1
            _log.exception("a DNS query could not be answered")
            return self._failure(data, SERVFAIL)

    def rendered(self, query: Query, resolution: Resolution, *, tcp: bool) -> bytes:
        """Bytes of an answer, within what the client takes."""
        return fit(query, resolution, self.face.options, tcp=tcp)

    def failed(self, query: Query, *, tcp: bool) -> bytes:
        """SERVFAIL: no recursor helped."""
        return self.rendered(query, Resolution(rcode=SERVFAIL, authoritative=False), tcp=tcp)

    def passed_on(self, query: Query, answer: bytes, *, tcp: bool) -> bytes:
        """A recursor's answer with the client's id; short when the client does not take so much."""
        answer = query.header.id.to_bytes(2, "big") + answer[2:]
        return answer if len(answer) <= allowance(query, tcp=tcp) else self.short(answer)

    def short(self, answer: bytes) -> bytes:
        """A truncated answer without records, no longer than its query: what a limited client gets."""
        header = header_of(answer)
        flags = (header.flags | 0x0200).to_bytes(2, "big")
        end = 12
        if header.questions:
            while answer[end]:
                end += 1 + answer[end]
            end += 5
        return answer[:2] + flags + header.questions.to_bytes(2, "big") + b"\0\0\0\0\0\0" + answer[12:end]

    # --- inside

    def _answer(self, data: bytes, name: bytes, tcp: bool) -> bytes | Forward | None:
        try:
            if header_of(data).response:
                # Answering answers would let two servers talk for ever.
                self._counters.malformed += 1
                return None
            if len(data) > limits.DNS_QUERY_SIZE_MAX:
                raise Malformed("a query too long")
            query = parse_query(data)
        except Malformed:
            self._counters.malformed += 1
            return self._failure(data, FORMERR)
        live = self._hub.live
        resolution = self.face.resolve(
            query, self._hub.reader(self._actor()), Asked(live.now_ms(), self._random.shuffle)
        )
        if resolution.forward:
            return Forward(query, query.question)
        if resolution.chase is not None:
            return Forward(query, resolution.chase, resolution)
        answer = fit(query, resolution, self.face.options, tcp=tcp)
        if resolution.interests is not None and len(data) <= limits.DNS_CACHED_QUERY_SIZE_MAX:
            self._keep(name, resolution, answer)
        return answer

    def _actor(self) -> Actor:
        try:
            return self._hub.authenticate(self._token, "")
        except Unauthenticated:
            return self._hub.authenticate("", "")

    def _keep(self, name: bytes, resolution: Resolution, answer: bytes) -> None:
        kept = self._young.get(name)
        if kept is None or not kept.view.fresh:
            assert resolution.interests is not None
            wanted = limits.DNS_VARIANTS_COUNT if len(resolution.answers) > 1 else 1
            kept = _Kept(self._hub.live.view(resolution.interests), wanted)
            if len(self._young) >= limits.DNS_ANSWERS_CACHED_MAX // 2:
                self._old, self._young = self._young, {}
            self._young[name] = kept
        kept.variants.append(answer[2:])

    def _revive(self, name: bytes) -> _Kept | None:
        kept = self._old.pop(name, None)
        if kept is not None and kept.view.fresh and len(self._young) < limits.DNS_ANSWERS_CACHED_MAX // 2:
            self._young[name] = kept
            return kept
        return None

    def _failure(self, data: bytes, rcode: int) -> bytes | None:
        """An answer to what could not be read or answered; None when not even its header is there."""
        try:
            header = header_of(data)
        except Malformed:
            return None
        return render(
            Message(
                id=header.id,
                question=None,
                opcode=header.opcode,
                recursion_desired=header.recursion_desired,
                rcode=rcode,
            )
        )
