"""One request from its head to the last byte of its answer: at an instance, and at another when that fails.

Retries follow one rule. What cannot have been acted on (no connection came about, or it is certain that nothing was
read) is tried elsewhere whatever the method. What was sent is sent again only when the method is idempotent, all of its
body is still held, and nothing of an answer has gone to the client. Each retry is paid for from the service's budget
and none begins after the deadline.

An answer of known, small length is held until it is complete: if the instance dies in its midst, another can give it.

Phases: SEEKING (no instance yet), CONNECTING, SENT (the answer's head is awaited), ANSWERING, OVER.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from townhall.client.records import Instance
from townhall.gateway.answers import UNTIL_CLOSE, AnswerHead, body_length_of
from townhall.gateway.fields import safe_trailers
from townhall.gateway.keys import key_of
from townhall.gateway.outbound import Endpoint, Outbound
from townhall.gateway.rendering import answer_head
from townhall.gateway.requests import RequestHead
from townhall.gateway.routes import Route
from townhall.gateway.services import Service
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved
from townhall.wire.http1 import CHUNKED, LAST_CHUNK, chunk

if TYPE_CHECKING:
    from townhall.gateway.trace import Trace

__all__ = ["Client", "Exchange"]

SEEKING: Final = 0
CONNECTING: Final = 1
SENT: Final = 2
ANSWERING: Final = 3
OVER: Final = 4

_PAUSE_S: Final = 0.05
"""Before instances that have all been tried are tried again."""


class Client(Protocol):
    """The client's side of an exchange."""

    blocked: bool
    """It takes no more bytes for now."""

    name: bytes
    """What the gateway is called in Via."""

    def block(self, authority: bytes, *, expects: bool) -> bytes:
        """The fields that an instance gets (``rendering.field_block``)."""
        ...

    def closing(self, whole: bool) -> bool:
        """Whether its connection ends after this answer; ``whole``: the request's body has come to its end."""
        ...

    def send(self, data: bytes) -> None:
        """A part of the answer."""
        ...

    def done(self) -> None:
        """The answer is complete."""
        ...

    def refuse(self, code: str, detail: str) -> None:
        """There is no answer but our own."""
        ...

    def cut(self) -> None:
        """The answer cannot be completed: the client must see that."""
        ...

    def pump(self) -> None:
        """More of the request's body is wanted."""
        ...

    def due(self, when: float) -> None:
        """``expired`` of the exchange is to be called then."""
        ...

    def switched(self, connection: Outbound, head: AnswerHead, over: Callable[[], None], *, idle_s: float) -> None:
        """The protocol changes: from here on both sides' bytes are passed on as they are, until it is ``over``."""
        ...


class Exchange:
    """Made for each request that has a service; ``start`` begins it."""

    __slots__ = (
        "_attempt_begun", "_body", "_body_done", "_client", "_committed", "_connection", "_deadline", "_endpoint", "_head", "_held", "_instance", "_interims",
        "_length", "_loop", "_phase", "_phase_due", "_retries", "_reusable", "_route", "_service", "_target", "_tried", "trace",
    )  # fmt: skip

    def __init__(
        self, client: Client, head: RequestHead, route: Route, service: Service, target: bytes, trace: Trace
    ) -> None:
        self._client = client
        self._head = head
        self._route = route
        self._service = service
        self._target = target
        self.trace = trace
        self._loop = asyncio.get_running_loop()
        self._phase = SEEKING
        self._phase_due = 0.0
        self._deadline = trace.begun + route.timeout
        self._retries = route.retries
        self._tried: set[str] = set()
        self._instance: Instance | None = None
        self._endpoint: Endpoint | None = None
        self._connection: Outbound | None = None
        self._attempt_begun = 0.0
        self._body: list[bytes] | None = []
        """What was sent of the request's body, to be sent again; None when it was too much to keep."""
        self._body_done = head.fields.length == 0
        self._length = 0
        """Of the answer's body, as ``body_length_of`` says."""
        self._reusable = False
        """The instance's connection can carry another request after this."""
        self._interims = 0
        """Answers before the answer (1xx) that were passed on."""
        self._held: list[bytes] = []
        self._committed = False
        """The client has something of an answer."""

    def start(self) -> None:
        """Begin."""
        self._service.handle.chooser.budget.call()
        self._seek()

    # --- an instance and a connection to it

    def _seek(self) -> None:
        self._phase = SEEKING
        if not self._service.ready:
            self._service.when_ready(self._found)
            self._arm(min(self._deadline, self._loop.time() + self._service.wait_s))
            return
        self._found()

    def _found(self) -> None:
        if self._phase != SEEKING:
            return
        instance = self._service.pick(self._tried, self._key() if self._route.key else None)
        if instance is None and self._tried:
            self._loop.call_later(_PAUSE_S, self._again)
        elif instance is None:
            self._nobody()
        else:
            self._attempt(instance)

    def _nobody(self) -> None:
        error = self._service.why_not()
        self._refuse(
            "unknown_service" if error.fields.get("why") == "unknown_service" else "no_instance", error.message
        )

    def _again(self) -> None:
        """All instances were tried: any of them once more."""
        if self._phase != SEEKING:
            return
        instance = self._service.anyone()
        if instance is None:
            self._nobody()
        else:
            self._attempt(instance)

    def _key(self) -> bytes:
        return key_of(self._route.key, self._head, self.trace.address)

    def _attempt(self, instance: Instance) -> None:
        now = self._loop.time()
        self._tried.add(instance.id)
        self._instance = instance
        self.trace.instance = instance
        self.trace.attempts += 1
        self._attempt_begun = now
        self._service.handle.chooser.begun(instance, now_ms=now * 1000)
        self._endpoint = endpoint = self._service.endpoint(instance)
        connection = endpoint.take(unsafe=not self._repeatable)
        if connection is not None:
            self._send(connection)
        else:
            self._ask(endpoint)

    def _ask(self, endpoint: Endpoint) -> None:
        self._phase = CONNECTING
        # The endpoint's own timeout ends a connect; this is for the queue before it.
        self._arm(self._deadline)
        if not endpoint.ask(self, pending_max=self._route.max_pending):
            self._attempt_ended(failed=False)
            self._refuse("overloaded", f"too many requests wait for a connection to {self._service.name}")

    def connected(self, connection: Outbound) -> None:
        if self._phase != CONNECTING or connection.endpoint is not self._endpoint:
            connection.endpoint.release(connection)
            return
        assert self._instance is not None
        if self._service.leaving(self._instance):
            # It began to drain while we connected; nothing was sent, so nothing is lost.
            connection.endpoint.release(connection)
            self._attempt_ended(failed=False)
            self._seek()
            return
        self._send(connection)

    def not_connected(self, error: OSError) -> None:
        if self._phase != CONNECTING:
            return
        kind = "timeout" if isinstance(error, TimeoutError) else "connect"
        self._failed(kind, sent=False, code="connect_failed", detail=f"{error or 'no connection in time'}")

    # --- the request

    def _send(self, connection: Outbound) -> None:
        self._phase = SENT
        self._connection = connection
        connection.taker = self
        connection.reader.expect(self._head.method)
        fields = self._head.fields
        body = self._body or []
        block = self._client.block(
            fields.authority or connection.endpoint.authority,
            # A body that is here already, in part or whole, needs no permission.
            expects=fields.expects_continue and not body,
        )
        head = b"%b %b HTTP/1.1\r\n%b" % (self._head.method, self._target, block)
        connection.write(head + b"".join([self._framed(part) for part in body]) if body else head)
        if self._body_done:
            if fields.length == CHUNKED:
                connection.write(self._last_chunk())
            self._await_answer()
        else:
            self._arm(self._loop.time() + self._route.idle_timeout)
            self._client.pump()

    @property
    def hungry(self) -> bool:
        """Whether more of the request's body can be taken."""
        connection = self._connection
        return connection is not None and not connection.blocked and not self._body_done

    def body(self, data: bytes, *, ended: bool) -> None:
        """A part of the request's body; asked for with ``hungry``."""
        connection = self._connection
        assert connection is not None
        self.trace.received += len(data)
        if data:
            if self._body is not None:
                self._body.append(data)
                if self.trace.received > limits.PROXY_REPLAY_SIZE_MAX:
                    self._body = None
            connection.write(self._framed(data))
        if ended:
            self._body_done = True
            if self._head.fields.length == CHUNKED:
                connection.write(self._last_chunk())
            if self._phase == SENT:
                self._await_answer()
        else:
            self._arm(self._loop.time() + self._route.idle_timeout)

    def _framed(self, part: bytes) -> bytes:
        return chunk(part) if self._head.fields.length == CHUNKED else part

    def _last_chunk(self) -> bytes:
        trailers = safe_trailers(self.trace.trailers)
        return b"0\r\n" + trailers + b"\r\n" if trailers else LAST_CHUNK

    def _await_answer(self) -> None:
        self._arm(min(self._deadline, self._loop.time() + self._route.first_byte_timeout))

    # --- the answer

    def received(self, connection: Outbound, data: bytes) -> None:
        reader = connection.reader
        try:
            reader.feed(data)
            while self._phase == SENT and self._connection is connection:
                head = reader.head()
                if head is None:
                    return
                self._head_came(connection, head)
            if self._phase == ANSWERING and self._connection is connection:
                self._parts_came(connection)
        except PeerMisbehaved as error:
            self._drop()
            self._failed("reset", sent=True, code="bad_answer", detail=error.message)

    def _head_came(self, connection: Outbound, head: AnswerHead) -> None:
        if head.status < 200:
            self._interim(connection, head)
            return
        assert self._instance is not None
        if head.status in self._route.retry_statuses:
            self._service.missed(self._instance)
            if self._may_repeat(sent=True):
                self._drop()
                self._attempt_ended(failed=True)
                self._seek()
                return
        else:
            self._service.served(self._instance)
        self._phase = ANSWERING
        self.trace.status = head.status
        self._length = length = body_length_of(head, self._head.method)
        client = self._client
        old = self._head.fields.old
        # A client of HTTP/1.0 learns the end of a body without length from the connection's end.
        close = client.closing(self._body_done) or (old and not 0 <= length < UNTIL_CLOSE)
        rendered = answer_head(head, length, name=client.name, old=old, close=close)
        self._reusable = head.keep_alive and length != UNTIL_CLOSE
        if 0 <= length <= limits.PROXY_HOLD_SIZE_MAX and self._repeatable and self._body is not None:
            self._held.append(rendered)
        else:
            self._committed = True
            client.send(rendered)

    def _interim(self, connection: Outbound, head: AnswerHead) -> None:
        asked = self._head.fields.upgrade
        if head.status == 101:
            if not asked or not self._route.upgrade or head.takes_upgrade != asked:
                raise PeerMisbehaved("the instance switched protocols unasked")
            self._phase = OVER
            self.trace.status = 101
            self._connection = None
            self._client.switched(connection, head, self._tunnel_over, idle_s=self._route.idle_timeout)
        elif self._interims >= limits.PROXY_INTERIM_MAX:
            raise PeerMisbehaved("too many interim answers")
        elif not self._head.fields.old and (head.status != 100 or self._head.fields.expects_continue):
            self._interims += 1
            # Not held back: a client that waits for 100 sends nothing before it comes.
            self._client.send(answer_head(head, 0, name=self._client.name, old=False, close=False))

    def _tunnel_over(self) -> None:
        self._attempt_ended(failed=False)

    def _parts_came(self, connection: Outbound) -> None:
        reader, out = connection.reader, self._held
        chunked = self._length in (CHUNKED, UNTIL_CLOSE) and not self._head.fields.old
        while not reader.ended:
            part = reader.part()
            if not part:
                break
            self.trace.sent += len(part)
            out.append(chunk(part) if chunked else part)
        if reader.ended:
            if chunked:
                out.append(self._end_of_chunks(reader.trailers))
            self._complete(connection)
            return
        if self._committed and out:
            self._client.send(b"".join(out))
            out.clear()
            connection.rest(self._client.blocked)
        self._arm(self._loop.time() + self._route.idle_timeout)

    def _end_of_chunks(self, trailers: bytes) -> bytes:
        if trailers and self._head.fields.takes_trailers:
            return b"0\r\n" + safe_trailers(trailers) + b"\r\n"
        return LAST_CHUNK

    def _complete(self, connection: Outbound) -> None:
        """The answer is whole: give the connection back, if it can be read on, and the client the rest."""
        self._phase = OVER
        self._connection = None
        self._attempt_ended(failed=False)
        if self._body_done and self._reusable and not connection.reader.held:
            connection.endpoint.release(connection)
        else:
            connection.close()
        if self._held:
            self._client.send(b"".join(self._held))
        self._client.done()

    # --- what goes wrong

    def lost(self, connection: Outbound) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if self._phase == ANSWERING and connection.reader.closed():
            if not self._head.fields.old:
                self._held.append(LAST_CHUNK)
            self._complete(connection)
        elif connection.reused and self._phase == SENT and not connection.reader.held and self._repeatable_now:
            # A kept connection that the instance closed at the moment we used it (RFC 9112 §9.3.1): no failure of its.
            self._once_more()
        else:
            self._failed("reset", sent=True, code="reset", detail="the instance closed the connection too early")

    def _once_more(self) -> None:
        """The same attempt over a new connection; at most once, since that one is not a kept one."""
        assert self._endpoint is not None
        self._ask(self._endpoint)

    def writable(self) -> None:
        self._client.pump()

    def client_writable(self) -> None:
        """The client takes bytes again."""
        if self._connection is not None:
            self._connection.rest(False)

    def client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self._phase == OVER:
            return
        self._phase = OVER
        if self._instance is not None:
            self._attempt_ended(failed=False)
        self._drop()

    def expired(self) -> None:
        """A timeout has passed."""
        now = self._loop.time()
        if self._phase == OVER:
            return
        if now < self._phase_due:
            self._client.due(self._phase_due)
            return
        if self._phase == SEEKING:
            self._refuse("no_instance", f"{self._service.name} could not be looked up in time")
        elif self._phase == CONNECTING:
            self._failed("timeout", sent=False, code="timeout", detail="no connection in time")
        elif not self._body_done and self._phase == SENT:
            # The client's fault as likely as the instance's, so nobody is blamed.
            self._drop()
            self._attempt_ended(failed=False)
            self._refuse("request_timeout", "the request's body did not come to its end in time")
        else:
            self._drop()
            self._failed("timeout", sent=True, code="timeout", detail="the instance did not answer in time")

    def _failed(self, kind: str, *, sent: bool, code: str, detail: str) -> None:
        """This attempt failed by the instance's fault: another one, or the end."""
        assert self._instance is not None
        instance, self._connection = self._instance, None
        self._attempt_ended(failed=True)
        self._service.failed(instance, kind)
        self.trace.failures.append(kind)
        if self._may_repeat(sent=sent):
            self._held.clear()
            self._seek()
        elif self._committed:
            self._phase = OVER
            self._client.cut()
        else:
            self._refuse(code, f"{self._service.name}: {detail}")

    @property
    def _repeatable(self) -> bool:
        return self._head.idempotent or self._route.retry_unsafe

    @property
    def _repeatable_now(self) -> bool:
        return self._repeatable and self._body is not None and not self._committed

    def _may_repeat(self, *, sent: bool) -> bool:
        """Whether another attempt may be made; it is paid for."""
        now = self._loop.time()
        if self._retries <= 0 or now >= self._deadline or (sent and not self._repeatable_now):
            return False
        if not self._service.handle.chooser.budget.spend(now_ms=now * 1000):
            return False
        self._retries -= 1
        return True

    def _attempt_ended(self, *, failed: bool) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            self._service.handle.chooser.ended(
                instance, begun_ms=self._attempt_begun * 1000, now_ms=self._loop.time() * 1000, failed=failed
            )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _refuse(self, code: str, detail: str) -> None:
        self._phase = OVER
        self._client.refuse(code, detail)

    def _arm(self, when: float) -> None:
        if self._route.whole_timeout:
            when = min(when, self.trace.begun + self._route.whole_timeout)
        self._phase_due = when
        self._client.due(when)
