"""Interceptors that count a gRPC server's calls, so that a provider knows what runs, and refuse those after a drain.

A call counts from its first byte until gRPC has sent its status and its handler has ended, whichever is later: the last
bytes leave after the handler, and the handler of a call that its client has given up may work on. Health checks and
reflection are neither counted nor refused: ``Watch`` of the health service lasts as long as its client, which shall hear
NOT_SERVING and not UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from townhall.client.attempts import NOT_ACTED_ON

__all__ = ["BlockingCounting", "CallCount", "Counting"]

_ASIDE = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_DETAILS = "the service stops; ask another instance"
_TRAILING = ((NOT_ACTED_ON, "stopping"),)
_END = object()


class CallCount:
    """How many calls run, and whether more are taken. Of any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._refusing = False
        self.asked = False
        """Whether the server has told of any call: it really has the interceptor."""

    @property
    def running(self) -> int:
        """Calls that run now."""
        return self._running

    def refuse(self) -> None:
        """Take no more calls."""
        with self._lock:
            self._refusing = True

    def begin(self) -> bool:
        """Whether a call is taken; it is counted until ``end``."""
        with self._lock:
            if not self._refusing:
                self._running += 1
            return not self._refusing

    def end(self) -> None:
        """A call that was taken is over."""
        with self._lock:
            self._running -= 1

    def concerns(self, method: str) -> bool:
        """Whether calls of a method are counted and refused."""
        self.asked = True
        return not method.startswith(_ASIDE)


class Counting(grpc.aio.ServerInterceptor):  # type: ignore[misc] # gRPC has no types
    """``grpc.aio.server(interceptors=[counting])``, then ``Registered(server, …, counting=counting)``.

    One for each server, the first of its interceptors.
    """

    def __init__(self) -> None:
        self.calls = CallCount()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The hook, which gRPC calls in the task that then runs the handler and sends the status."""
        if self.calls.concerns(details.method):
            if not self.calls.begin():
                return _REFUSAL
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(lambda _: self.calls.end())
        return await continuation(details)


class BlockingCounting(grpc.ServerInterceptor):  # type: ignore[misc] # gRPC has no types
    """``grpc.server(pool, interceptors=[counting])``, then ``BlockingRegistered(server, …, counting=counting)``.

    One for each server, the first of its interceptors.
    """

    def __init__(self) -> None:
        self.calls = CallCount()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The hook, which is told of a call but not of its end: its handler is replaced by one that counts."""
        handler = continuation(details)
        if not self.calls.concerns(details.method) or handler is None:
            return handler
        make, behaviour = _parts(handler)
        counted = functools.partial(self._run, behaviour, handler.response_streaming)
        # What gRPC reads from a function's attributes stays there.
        functools.update_wrapper(counted, behaviour)
        return make(counted, handler.request_deserializer, handler.response_serializer)

    def _run(self, behaviour: Callable[..., Any], streams: bool, request: Any, context: Any, *rest: Any) -> Any:
        if not self.calls.begin():
            context.set_trailing_metadata(_TRAILING)
            context.abort(grpc.StatusCode.UNAVAILABLE, _DETAILS)
        call = _Call(self.calls.end)
        with call:
            if not context.add_callback(call.over):
                call.over()
            answer = behaviour(request, context, *rest)
        # With a callback for its answers (an experiment of gRPC's) there is nothing to iterate over.
        return answer if rest or not streams else _pieces(answer, call)


class _Call:
    """A call of a server with threads: a context manager around what its handler does."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._working = 0
        self._over = False
        self._ended = False

    def __enter__(self) -> None:
        with self._lock:
            self._working += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._working -= 1
        self._look()

    def over(self) -> None:
        """The RPC has ended."""
        with self._lock:
            self._over = True
        self._look()

    def _look(self) -> None:
        with self._lock:
            ends = self._over and not self._working and not self._ended
            self._ended = self._ended or ends
        if ends:
            self._end()


def _pieces(answers: Any, call: _Call) -> Iterator[Any]:
    """The handler works while it is asked for the next answer; between two of them only gRPC knows how it goes on."""
    answers = iter(answers)
    while True:
        with call:
            piece = next(answers, _END)
        if piece is _END:
            return
        yield piece


def _parts(handler: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What makes handlers of this kind, and this one's function."""
    if handler.request_streaming:
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler, handler.stream_stream
        return grpc.stream_unary_rpc_method_handler, handler.stream_unary
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler, handler.unary_stream
    return grpc.unary_unary_rpc_method_handler, handler.unary_unary


async def _refuse(requests: Any, context: Any) -> None:
    """Nothing was done for this call: another instance may be asked, whatever the method."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, _DETAILS, _TRAILING)


_REFUSAL = grpc.stream_stream_rpc_method_handler(_refuse)
"""For calls of all kinds: this kind waits for no request before it answers."""
