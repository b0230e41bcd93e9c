"""A channel of grpc.aio to a service: each call picks its instance, and a unary one is made again when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc
import grpc.aio

from townhall.client.grpc_instances import ChannelOptions, ChannelPool, Failed, call_options, failure, maker
from townhall.client.opened import Opened
from townhall.client.records import Instance
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from townhall.client.consumer import Consumer

__all__ = ["Channel"]

_LOOK_S = 60.0
"""How long one look for an instance waits before the next, in ``channel_ready``."""


class Channel(grpc.aio.Channel):  # type: ignore[misc] # grpcio has no types
    """``stub = UsersStub(Channel(consumer, "user"))``: any generated stub takes it. Close it, or use ``async with``.

    Unary calls are balanced and made again within the options. Calls with a stream are balanced, counted while they last and
    reported, but made once; for these the channel must have been entered or ``channel_ready`` awaited before. The
    consumer stays the caller's to close.
    """

    def __init__(self, consumer: Consumer, service: str | ServiceKey, **options: Unpack[ChannelOptions]) -> None:
        self.handle = consumer[service]
        self.options = options
        make = maker(options, grpc.aio.insecure_channel, grpc.aio.secure_channel)
        self.pool: ChannelPool[Any] = ChannelPool(make, self._retire, self.handle.instances)
        self._tasks: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Self:
        await self.handle.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """End all connections; running calls are cancelled after ``grace`` seconds."""
        await asyncio.gather(*(channel.close(grace) for channel in self.pool.close()), *self._tasks)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY while an instance may be called; connections are made by calls."""
        ready = bool(self.handle.instances(callable_only=True))
        return grpc.ChannelConnectivity.READY if ready else grpc.ChannelConnectivity.IDLE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another one."""
        async for _ in self.handle.watch():
            if self.get_state() is not last_observed_state:
                return

    async def channel_ready(self) -> None:
        """Returns when an instance may be called."""
        while self.get_state() is not grpc.ChannelConnectivity.READY:
            try:
                await self.handle.wait_callable(budget_s=_LOOK_S)
            except TownhallError:
                await asyncio.sleep(0)

    def unary_unary(self, method: str, *serializers: Any, **more: Any) -> _UnaryUnary:
        """A callable for stubs."""
        return _UnaryUnary(self, method, _named(serializers, more))

    def unary_stream(self, method: str, *serializers: Any, **more: Any) -> Callable[..., Any]:
        """A callable for stubs."""
        return _Streaming(self, "unary_stream", method, _named(serializers, more))

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> Callable[..., Any]:
        """A callable for stubs."""
        return _Streaming(self, "stream_unary", method, _named(serializers, more))

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Callable[..., Any]:
        """A callable for stubs."""
        return _Streaming(self, "stream_stream", method, _named(serializers, more))

    def keep(self, step: Any) -> None:
        """Own what runs beside the calls, until it is done."""
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _retire(self, channel: Any) -> None:
        self.keep(channel.close())


def _named(serializers: tuple[Any, ...], more: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``unary_unary`` and its kin; what is private to grpcio's own channel is left out."""
    given = dict(zip(("request_serializer", "response_deserializer"), serializers, strict=False))
    return given | {name: value for name, value in more.items() if not name.startswith("_")}


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[misc] # grpcio has no types
    """Calls of one method."""

    def __init__(self, channel: Channel, method: str, serializers: dict[str, Any]) -> None:
        self._channel = channel
        self._method = method
        self._serializers = serializers

    def __call__(self, request: Any, *, timeout: float | None = None, **more: Any) -> _UnaryCall:
        return _UnaryCall(self._channel, self._method, self._serializers, _Said(request, timeout, more))


class _Said:
    """What the caller gave for one call."""

    def __init__(self, request: Any, timeout_s: float | None, more: dict[str, Any]) -> None:
        self.request = request
        self.deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        self.more = more

    def remaining(self) -> float | None:
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - asyncio.get_running_loop().time())


class _UnaryCall(grpc.aio.UnaryUnaryCall):  # type: ignore[misc] # grpcio has no types
    """One call over however many attempts; to its caller, one call."""

    def __init__(self, channel: Channel, method: str, serializers: dict[str, Any], said: _Said) -> None:
        self._channel = channel
        self._method = method
        self._serializers = serializers
        self._said = said
        self._last: Any = None
        """The attempt that is running, or was the last; grpc's own call."""
        self._error: Any = None
        self._task = asyncio.ensure_future(self._run())
        # Who looks at the status alone has not forgotten the exception.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    async def code(self) -> grpc.StatusCode:
        """The status in the end."""
        status: grpc.StatusCode = await self._of_the_end("code")
        return status

    async def details(self) -> str:
        """The words beside the status."""
        return str(await self._of_the_end("details"))

    async def initial_metadata(self) -> Any:
        """Of the attempt that counted."""
        return await self._of_the_end("initial_metadata")

    async def trailing_metadata(self) -> Any:
        """Of the attempt that counted."""
        return await self._of_the_end("trailing_metadata")

    async def wait_for_connection(self) -> None:
        """Returns when an attempt was answered. Raises what the call raises."""
        await asyncio.shield(self._task)

    def cancel(self) -> bool:
        """Stop trying."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Whether it was."""
        return self._task.cancelled()

    def done(self) -> bool:
        """Whether it is over."""
        return self._task.done()

    def time_remaining(self) -> float | None:
        """Until the deadline; None without one."""
        return self._said.remaining()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Be called with this call when it is over."""
        self._task.add_done_callback(lambda _: callback(self))

    async def _of_the_end(self, what: str) -> Any:
        await asyncio.wait({self._task})
        if self._error is not None:
            return getattr(self._error, what)()
        if self._last is not None:
            return await getattr(self._last, what)()
        return grpc.StatusCode.CANCELLED if what == "code" else ""

    async def _run(self) -> Any:
        channel = self._channel
        try:
            return await channel.handle.call(self._attempt, **call_options(channel.options, self._method))
        except Failed as error:
            self._error = error.__cause__
            raise self._error from error
        except TownhallError as error:
            self._error = _unavailable(error)
            raise self._error from error
        except grpc.aio.AioRpcError as error:
            self._error = error
            raise

    async def _attempt(self, instance: Instance) -> Any:
        said, pool = self._said, self._channel.pool
        remaining, try_timeout_s = said.remaining(), self._channel.options.get("try_timeout")
        cut_short = try_timeout_s is not None and (remaining is None or try_timeout_s < remaining)
        method = pool.begin(instance).unary_unary(self._method, **self._serializers)
        try:
            self._last = method(said.request, timeout=try_timeout_s if cut_short else remaining, **said.more)
            return await self._last
        except grpc.aio.AioRpcError as error:
            if failed := failure(error, cut_short=cut_short):
                raise failed from error
            raise
        finally:
            pool.end(instance)


class _Streaming:
    """Calls of one method with a stream on either side: made at one instance, as grpc's own call."""

    def __init__(self, channel: Channel, shape: str, method: str, serializers: dict[str, Any]) -> None:
        self._channel = channel
        self._shape = shape
        self._method = method
        self._serializers = serializers

    def __call__(self, request: Any | AsyncIterable[Any] | Iterable[Any] = None, **more: Any) -> Any:
        """Raises AioRpcError when no instance may be called, at once."""
        channel, handle = self._channel, self._channel.handle
        try:
            instance = handle.pick()
        except TownhallError as error:
            raise _unavailable(error) from error
        begun_ms = asyncio.get_running_loop().time() * 1000
        method = getattr(channel.pool.begin(instance), self._shape)(self._method, **self._serializers)
        handle.chooser.begun(instance, now_ms=begun_ms)
        call = method(request, **more)
        opened = Opened(call, instance, handle.chooser, handle.failed, begun_ms=begun_ms)
        call.add_done_callback(lambda done: channel.keep(self._over(opened)))
        return call

    async def _over(self, opened: Opened[Any]) -> None:
        call = opened.value
        ended = grpc.aio.AioRpcError(
            await call.code(),
            await call.initial_metadata(),
            await call.trailing_metadata(),
            details=await call.details(),
        )
        failed = failure(ended, cut_short=False)
        if failed is None:
            opened.close()
        else:
            opened.fail(str(failed.fields["kind"]))
        self._channel.pool.end(opened.instance)


def _unavailable(error: TownhallError) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=str(error))
