"""gRPC clients that call services by name, and servers that are found; needs ``townhall[grpcio]``.

::

    async with townhall.grpc.Channel(consumer, "user") as channel:
        answer = await UsersStub(channel).Get(GetRequest(id=1))

    async with townhall.grpc.Registered(server, "http://127.0.0.1:7500", service="user", port=50051) as it:
        await it.wait_stopped()

``BlockingChannel`` and ``BlockingRegistered`` are the same for grpc without asyncio. ``Counting`` and ``BlockingCounting``
are interceptors of servers: a stop refuses calls that come late and waits for those that run.
"""

from townhall.client.extras import needs

with needs("grpc", extra="grpcio"):
    from townhall.client.grpc_aio_channel import Channel
    from townhall.client.grpc_blocking_channel import BlockingChannel, Unreached
    from townhall.client.grpc_counting import BlockingCounting, Counting
    from townhall.client.grpc_instances import ChannelOptions
    from townhall.client.grpc_servers import BlockingRegistered, Registered

__all__ = [
    "BlockingChannel",
    "BlockingCounting",
    "BlockingRegistered",
    "Channel",
    "ChannelOptions",
    "Counting",
    "Registered",
    "Unreached",
]
