"""What may be set about an HTTP server; the defaults and their reasons are in ``model.limits``."""

from __future__ import annotations

import msgspec

from townhall.model import limits

__all__ = ["HttpOptions"]


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one HTTP server. Sizes in bytes, times in milliseconds; every value is above 0."""

    header_count_max: int = limits.HEADER_COUNT_MAX
    header_size_max: int = limits.HEADER_SIZE_MAX
    """Request line and fields together; more is answered with 431."""
    target_size_max: int = limits.TARGET_SIZE_MAX
    """More is answered with 414."""
    body_size_max: int = limits.BODY_SIZE_MAX
    """Upper bound for what the routes allow; more is answered with 413."""
    connections_max: int = limits.CONNECTIONS_MAX
    """In all; one more is answered with 503."""
    connections_per_address_max: int = limits.CONNECTIONS_PER_ADDRESS_MAX
    header_timeout_ms: int = limits.HEADER_TIMEOUT_MS
    """From the first byte of a request to the end of its head; then 408."""
    body_timeout_ms: int = limits.BODY_TIMEOUT_MS
    """Without a byte of an announced body; then 408."""
    idle_timeout_ms: int = limits.IDLE_TIMEOUT_MS
    """A connection without a request; closed silently."""
    linger_timeout_ms: int = limits.LINGER_TIMEOUT_MS
    """How long bytes are read and dropped after an early answer."""
    pipeline_count_max: int = limits.PIPELINE_COUNT_MAX
    """Requests of one connection answered in one turn."""
    read_ahead_size_max: int = limits.READ_AHEAD_SIZE_MAX
    """Bytes held behind an unanswered request."""
    parked_per_address_max: int = limits.PARKED_PER_ADDRESS_MAX
    """Parked reads and streams; one more is refused with OverLimit."""
    write_buffer_size_max: int = limits.WRITE_BUFFER_SIZE_MAX
    """Unsent bytes of one connection beyond which it gets nothing further."""
    stream_stall_timeout_ms: int = limits.STREAM_STALL_TIMEOUT_MS
    """A peer that takes no byte for so long, while bytes wait for it, is cut off."""
    gzip_size_min: int = limits.GZIP_SIZE_MIN
    reply_cache_count_max: int = limits.REPLY_CACHE_COUNT_MAX
    reply_cache_size_max: int = limits.REPLY_CACHE_SIZE_MAX
    head_memo_count_max: int = limits.HEAD_MEMO_COUNT_MAX

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
