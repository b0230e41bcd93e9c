"""A channel of grpc to a service for programs without an event loop; as ``grpc_aio_channel``."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import grpc

from townhall.client.grpc_instances import ChannelOptions, ChannelPool, Failed, call_options, failure, maker
from townhall.client.opened import Opened
from townhall.client.records import Instance
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from townhall.client import blocking

__all__ = ["BlockingChannel", "Unreached"]


class Unreached(grpc.RpcError):  # type: ignore[misc] # grpcio has no types
    """No instance may be called: the status UNAVAILABLE, as if a connection could not be made."""

    def __init__(self, error: TownhallError) -> None:
        super().__init__(str(error))

    def code(self) -> grpc.StatusCode:
        """UNAVAILABLE."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """Why there is none."""
        return str(self)

    def trailing_metadata(self) -> tuple[()]:
        """Nothing."""
        return ()


class BlockingChannel(grpc.Channel):  # type: ignore[misc] # grpcio has no types
    """``stub = UsersStub(BlockingChannel(consumer, "user"))``, with a consumer of ``townhall.blocking``.

    Unary calls are balanced and made again within the options; ``future`` and calls with a stream are balanced, counted
    while they last and reported, but made once. The consumer stays the caller's to close.
    """

    def __init__(
        self, consumer: blocking.Consumer, service: str | ServiceKey, **options: Unpack[ChannelOptions]
    ) -> None:
        self.handle = consumer[service]
        self.options = options
        make = maker(options, grpc.insecure_channel, grpc.secure_channel)
        self.pool: ChannelPool[Any] = ChannelPool(make, lambda channel: channel.close(), self.handle.instances)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections, and the calls that run over them."""
        for channel in self.pool.close():
            channel.close()

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], object], try_to_connect: bool = False) -> None:
        """Be called once, with READY when an instance may be called, else IDLE. Connections are made by calls."""
        if try_to_connect:
            self.handle.start()
        ready = bool(self.handle.instances(callable_only=True))
        callback(grpc.ChannelConnectivity.READY if ready else grpc.ChannelConnectivity.IDLE)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], object]) -> None:
        """Nothing is left of a subscription."""

    def unary_unary(self, method: str, *serializers: Any, **more: Any) -> _UnaryUnary:
        """A callable for stubs."""
        return _UnaryUnary(self, method, _named(serializers, more))

    def unary_stream(self, method: str, *serializers: Any, **more: Any) -> Callable[..., Any]:
        """A callable for stubs."""
        return _Opening(self, "unary_stream", method, _named(serializers, more))

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> _StreamUnary:
        """A callable for stubs."""
        return _StreamUnary(self, "stream_unary", method, _named(serializers, more))

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Callable[..., Any]:
        """A callable for stubs."""
        return _Opening(self, "stream_stream", method, _named(serializers, more))


def _named(serializers: tuple[Any, ...], more: dict[str, Any]) -> dict[str, Any]:
    given = dict(zip(("request_serializer", "response_deserializer"), serializers, strict=False))
    return given | {name: value for name, value in more.items() if not name.startswith("_")}


class _Opening:
    """Calls of one method that are made at one instance, and last."""

    def __init__(self, channel: BlockingChannel, shape: str, method: str, serializers: dict[str, Any]) -> None:
        self._channel = channel
        self._shape = shape
        self._method = method
        self._serializers = serializers

    def __call__(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The call, as grpc has it. Raises ``Unreached``."""
        return self._open("__call__", request, timeout, more)

    def _open(self, how: str, request: Any, timeout: float | None, more: dict[str, Any]) -> Any:
        channel = self._channel

        def begin(instance: Instance) -> Any:
            method = getattr(channel.pool.begin(instance), self._shape)(self._method, **self._serializers)
            return getattr(method, how)(request, timeout=timeout, **more)

        try:
            opened = channel.handle.open(begin, retries=0, wait=channel.options.get("wait", 0.0))
        except TownhallError as error:
            raise Unreached(error) from error
        if not opened.value.add_callback(lambda: self._over(opened)):
            self._over(opened)
        return opened.value

    def _over(self, opened: Opened[Any]) -> None:
        failed = failure(opened.value, cut_short=False)
        if failed is None:
            opened.close()
        else:
            opened.fail(str(failed.fields["kind"]))
        self._channel.pool.end(opened.instance)


class _StreamUnary(_Opening, grpc.StreamUnaryMultiCallable):  # type: ignore[misc] # grpcio has no types
    """Calls of one method that sends a stream; made once, because the stream exists once."""

    def __call__(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The response to a stream of requests. Raises grpc.RpcError."""
        return self.future(request, timeout, **more).result()

    def with_call(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The response and the call."""
        call = self.future(request, timeout, **more)
        return call.result(), call

    def future(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The call, which is a future of the response."""
        return self._open("future", request, timeout, more)


class _UnaryUnary(_Opening, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc] # grpcio has no types
    """Calls of one method."""

    def __init__(self, channel: BlockingChannel, method: str, serializers: dict[str, Any]) -> None:
        super().__init__(channel, "unary_unary", method, serializers)

    def __call__(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The response. Raises grpc.RpcError."""
        return self.with_call(request, timeout, **more)[0]

    def with_call(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The response and the call that gave it."""
        channel = self._channel
        deadline = None if timeout is None else time.monotonic() + timeout
        try_timeout_s = channel.options.get("try_timeout")

        def attempt(instance: Instance) -> Any:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            cut_short = try_timeout_s is not None and (remaining is None or try_timeout_s < remaining)
            method = channel.pool.begin(instance).unary_unary(self._method, **self._serializers)
            try:
                return method.with_call(request, timeout=try_timeout_s if cut_short else remaining, **more)
            except grpc.RpcError as error:
                if failed := failure(error, cut_short=cut_short):
                    raise failed from error
                raise
            finally:
                channel.pool.end(instance)

        try:
            return channel.handle.call(attempt, **call_options(channel.options, self._method))
        except Failed as error:
            raise cast("grpc.RpcError", error.__cause__) from error
        except TownhallError as error:
            raise Unreached(error) from error

    def future(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        """The call, which is a future of the response; made once."""
        return self._open("future", request, timeout, more)
