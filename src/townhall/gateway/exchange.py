"""One request from its head to the last byte of its answer: at an instance, and at another when that fails.

Retries follow one rule. What cannot have been acted on (no connection came about, or it is certain that nothing was
read) is tried elsewhere whatever the method. What was sent is sent again only when the method is idempotent, all of its
body is still held, and nothing of an answer has gone to the client. Each retry is paid for from the service's budget
and none begins after the deadline.

An answer of known, small length is held until it is complete: if the instance dies in its midst, another can give it.

Phases: SEEKING (no instance yet), CONNECTING, SENT (the answer's head is awaited), ANSWERING, OVER.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from townhall.client.records import Instance
from townhall.gateway.answers import AnswerHead, body_length_of
from townhall.gateway.contracts import Carrier, Client
from townhall.gateway.endpoint import Endpoint
from townhall.gateway.fields import safe_trailers
from townhall.gateway.keys import key_of
from townhall.gateway.requests import RequestHead
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved

if TYPE_CHECKING:
    from townhall.gateway.plane import Way
    from townhall.gateway.trace import Trace

__all__ = ["Exchange"]

SEEKING: Final = 0
CONNECTING: Final = 1
SENT: Final = 2
ANSWERING: Final = 3
OVER: Final = 4

_PAUSE_S: Final = 0.05
"""Before instances that have all been tried are tried again."""


class Exchange:
    """Made for each request that has a service; ``start`` begins it."""

    __slots__ = (
        "_answer", "_answered", "_attempt_begun", "_body", "_body_done", "_carrier", "_chooser", "_client", "_committed", "_deadline",
        "_endpoint", "_head", "_held", "_instance", "_interims", "_length", "_loop", "_phase", "_phase_due", "_repeatable", "_retries", "_route",
        "_service", "_target", "_tried", "_unsent", "trace",
    )  # fmt: skip

    def __init__(self, client: Client, head: RequestHead, way: Way, trace: Trace) -> None:
        self._client = client
        self._head = head
        self._route = route = way.route
        self._service = service = way.service
        self._chooser = service.handle.chooser
        self._loop = service.loop
        self._target = way.target
        self.trace = trace
        self._phase = SEEKING
        self._phase_due = 0.0
        self._deadline = trace.begun + route.timeout
        self._retries = route.retries
        self._repeatable = way.repeatable
        self._tried: tuple[str, ...] = ()
        """Instances, by id."""
        self._instance: Instance | None = None
        self._endpoint: Endpoint | None = None
        self._carrier: Carrier | None = None
        self._attempt_begun = 0.0
        self._answered: float | None = None
        """When the present attempt's answer began, unless it has been whole at once."""
        self._body: list[bytes] | None = []
        """What was sent of the request's body, to be sent again; None when it was too much to keep."""
        self._body_done = head.fields.length == 0
        self._answer: AnswerHead | None = None
        """A head that the client does not have yet."""
        self._length = 0
        """Of its body, as ``body_length_of`` says."""
        self._held: list[bytes] = []
        """What came of the body and the client does not have yet."""
        self._committed = False
        """The client has something of an answer."""
        self._interims = 0
        """Answers before the answer (1xx) that were passed on."""
        self._unsent = inf
        """What lay before whoever takes no more, when it was looked at last."""

    def start(self) -> None:
        """Begin."""
        self._chooser.budget.call()
        self._seek()

    # --- an instance and a connection to it

    def _seek(self) -> None:
        self._phase = SEEKING
        service = self._service
        if not service.ready:
            service.when_ready(self._found)
            self._arm(min(self._deadline, self._loop.time() + service.wait_s))
            return
        if self._tried:
            instance = self._chooser.untried(self._tried, service.handle.instances())
        else:
            instance = self._chooser.pick(self._key() if self._route.key else None)
        if instance is None and self._tried:
            self._loop.call_later(_PAUSE_S, self._again)
        elif instance is None:
            self._nobody()
        else:
            self._attempt(instance)

    def _found(self) -> None:
        """The service's instances are known now."""
        if self._phase == SEEKING:
            self._seek()

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
        self._tried += (instance.id,)
        self._instance = instance
        self.trace.instance = instance
        self.trace.attempts += 1
        self._attempt_begun = now
        self._chooser.begun(instance, now_ms=now * 1000)
        self._endpoint = endpoint = self._service.endpoint(instance)
        carrier = endpoint.take(unsafe=not self._repeatable)
        if carrier is not None:
            self._send(carrier)
        else:
            self._ask(endpoint)

    def _ask(self, endpoint: Endpoint) -> None:
        self._phase = CONNECTING
        # The endpoint's own timeout ends a connect; this is for the queue before it.
        self._arm(self._deadline)
        if not endpoint.ask(self, pending_max=self._route.max_pending):
            self._attempt_ended(failed=False)
            self._refuse("overloaded", f"too many requests wait for a connection to {self._service.name}")

    def connected(self, carrier: Carrier) -> bool:
        if self._phase != CONNECTING or carrier.endpoint is not self._endpoint:
            return False
        assert self._instance is not None
        if self._service.handle.leaving(self._instance):
            # It began to drain while we connected; nothing was sent, so nothing is lost.
            self._attempt_ended(failed=False)
            self._seek()
            return False
        self._send(carrier)
        return True

    def not_connected(self, error: OSError) -> None:
        if self._phase != CONNECTING:
            return
        kind = "timeout" if isinstance(error, TimeoutError) else "connect"
        self._failed(kind, sent=False, code="connect_failed", detail=str(error) or "no connection in time")

    # --- the request

    def _send(self, carrier: Carrier) -> None:
        self._phase = SENT
        self._carrier = carrier
        carrier.taker = self
        fields = self._head.fields
        body = self._body or ()
        block = self._client.block(
            fields.authority or carrier.endpoint.authority,
            # A body that is here already, in part or whole, needs no permission.
            expects=fields.expects_continue and not body,
        )
        carrier.send(self._head, self._target, block, body)
        if self._body_done:
            self._body_ended(carrier)
        else:
            self._arm(self._loop.time() + self._route.idle_timeout)
            self._client.pump()

    @property
    def hungry(self) -> bool:
        """Whether more of the request's body can be taken."""
        carrier = self._carrier
        return carrier is not None and not carrier.blocked and not self._body_done

    def body(self, data: bytes, *, ended: bool) -> None:
        """A part of the request's body; asked for with ``hungry``."""
        carrier = self._carrier
        assert carrier is not None
        self.trace.received += len(data)
        if data:
            if self._body is not None:
                self._body.append(data)
                if self.trace.received > limits.PROXY_REPLAY_SIZE_MAX:
                    self._body = None
            carrier.body(data)
        if ended:
            self._body_done = True
            self._body_ended(carrier)
        else:
            self._arm(self._loop.time() + self._route.idle_timeout)

    def _body_ended(self, carrier: Carrier) -> None:
        if self._head.fields.length:
            carrier.end(self.trace.trailers)
        if self._phase == SENT:
            due = self._loop.time() + self._route.first_byte_timeout
            self._arm(due if due < self._deadline else self._deadline)

    # --- the answer

    def head_came(self, carrier: Carrier, head: AnswerHead) -> None:
        if head.status < 200:
            self._interim(carrier, head)
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
        if 0 <= length <= limits.PROXY_HOLD_SIZE_MAX and self._repeatable_now:
            self._answer = head
        else:
            self._committed = True
            self._client.begin(head, length, whole=self._body_done)

    def _interim(self, carrier: Carrier, head: AnswerHead) -> None:
        asked = self._head.fields.upgrade
        if head.status == 101:
            if not asked or not self._route.upgrade or head.takes_upgrade != asked:
                raise PeerMisbehaved("the instance switched protocols unasked")
            self._phase = OVER
            self._answer_begins()
            self.trace.status = 101
            self._carrier = None
            self._client.switched(carrier, head, self._tunnel_over, idle_s=self._route.idle_timeout)
        elif self._interims >= limits.PROXY_INTERIM_MAX:
            raise PeerMisbehaved("too many interim answers")
        elif not self._head.fields.old and (head.status != 100 or self._head.fields.expects_continue):
            self._interims += 1
            # Not held back: a client that waits for 100 sends nothing before it comes.
            self._client.interim(head)

    def _answer_begins(self) -> None:
        """It has not come to its end at once; if it has, only its end is told."""
        assert self._instance is not None
        self._answered = self._loop.time()
        self._chooser.answered(self._instance)

    def _tunnel_over(self) -> None:
        self._attempt_ended(failed=False)

    def body_came(self, carrier: Carrier, data: bytes, *, ended: bool) -> None:
        held = self._held
        if data:
            self.trace.sent += len(data)
            held.append(data)
        if ended:
            self._complete(carrier)
            return
        if self._answered is None:
            self._answer_begins()
        if self._answer is None:
            self._client.more(held)
            held.clear()
            carrier.rest(self._client.blocked)
        self._arm(self._loop.time() + self._route.idle_timeout)

    def _complete(self, carrier: Carrier) -> None:
        """The answer is whole: give the carrier back, and the client the rest."""
        self._phase = OVER
        self._carrier = None
        self._attempt_ended(failed=False)
        trailers = safe_trailers(carrier.trailers) if self._head.fields.takes_trailers else b""
        carrier.finished(whole=self._body_done)
        if self._answer is not None:
            self._client.begin(self._answer, self._length, whole=self._body_done)
        self._client.end(self._held, trailers)

    # --- what goes wrong

    def lost(self, carrier: Carrier, *, untouched: bool, unprocessed: bool) -> None:
        self._carrier = None
        again = unprocessed or (untouched and self._repeatable)
        if carrier.reused and again and self._body is not None and not self._committed:
            # A kept connection that the instance closed at the moment we used it (RFC 9112 §9.3.1): no failure of its.
            self._once_more()
        else:
            self._failed("reset", sent=True, code="reset", detail="the instance closed the connection too early")

    def broken(self, carrier: Carrier, detail: str) -> None:
        self._drop()
        self._failed("reset", sent=True, code="bad_answer", detail=detail)

    def _once_more(self) -> None:
        """The same attempt over a new connection; at most once, since that one is not a kept one."""
        assert self._endpoint is not None
        self._ask(self._endpoint)

    def writable(self) -> None:
        self._client.pump()

    def client_writable(self) -> None:
        """The client takes bytes again."""
        if self._carrier is not None:
            self._carrier.rest(False)

    def client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self._phase == OVER:
            return
        if self._phase == CONNECTING and self._endpoint is not None:
            self._endpoint.forgo(self)
        self._phase = OVER
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
            assert self._endpoint is not None
            self._endpoint.forgo(self)
            self._failed("timeout", sent=False, code="timeout", detail="no connection in time")
        elif self._moves():
            self._arm(now + self._route.idle_timeout, moves=True)
        elif self._phase == ANSWERING and self._client.blocked:
            # It takes nothing of its answer, and that is no fault of the instance's.
            self.trace.code = "slow_client"
            self.client_gone()
            self._client.cut()
        elif not self._body_done and self._phase == SENT and not self._blocked:
            # The client's fault as likely as the instance's, so nobody is blamed.
            self._drop()
            self._attempt_ended(failed=False)
            self._refuse("request_timeout", "the request's body did not come to its end in time")
        else:
            self._drop(hung=True)
            self._failed("timeout", sent=True, code="timeout", detail="the instance did not answer in time")

    @property
    def _blocked(self) -> bool:
        return self._carrier is not None and self._carrier.blocked

    def _moves(self) -> bool:
        """Whether bytes go on, although so slowly that who takes them has not asked for more for a while."""
        if self._route.whole_timeout and self._loop.time() >= self.trace.begun + self._route.whole_timeout:
            return False
        if self._phase == ANSWERING and self._client.blocked:
            unsent = self._client.unsent
        elif self._carrier is not None and self._carrier.blocked and not self._body_done:
            unsent = self._carrier.unsent
        else:
            return False
        before, self._unsent = self._unsent, unsent
        return unsent < before

    def _failed(self, kind: str, *, sent: bool, code: str, detail: str) -> None:
        """This attempt failed by the instance's fault: another one, or the end."""
        assert self._instance is not None
        instance, self._carrier = self._instance, None
        self._attempt_ended(failed=True)
        self._service.failed(instance, kind)
        self.trace.failures.append(kind)
        if self._may_repeat(sent=sent):
            self._answer = None
            self._held.clear()
            self._seek()
        elif self._committed:
            self._phase = OVER
            self._client.cut()
        else:
            self._refuse(code, f"{self._service.name}: {detail}")

    @property
    def _repeatable_now(self) -> bool:
        return self._repeatable and self._body is not None and not self._committed

    def _may_repeat(self, *, sent: bool) -> bool:
        """Whether another attempt may be made; it is paid for."""
        now = self._loop.time()
        if self._retries <= 0 or now >= self._deadline or (sent and not self._repeatable_now):
            return False
        if not self._chooser.budget.spend(now_ms=now * 1000):
            return False
        self._retries -= 1
        return True

    def _attempt_ended(self, *, failed: bool) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            answered, now = self._answered, self._loop.time()
            self._answered = None
            self._chooser.ended(
                instance,
                begun_ms=self._attempt_begun * 1000,
                now_ms=now * 1000,
                failed=failed,
                answered_ms=None if answered is None else answered * 1000,
            )

    def _drop(self, *, hung: bool = False) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.close(hung=hung)

    def _refuse(self, code: str, detail: str) -> None:
        self._phase = OVER
        self._client.refuse(code, detail)

    def _arm(self, when: float, *, moves: bool = False) -> None:
        if not moves:
            self._unsent = inf
        if self._route.whole_timeout:
            when = min(when, self.trace.begun + self._route.whole_timeout)
        self._phase_due = when
        self._client.due(when)
