from __future__ import annotations

import pytest

from townhall.model import limits
from townhall.serve.options import HttpOptions

DEFAULTS = {
    "header_count_max": limits.HEADER_COUNT_MAX,
    "header_size_max": limits.HEADER_SIZE_MAX,
    "target_size_max": limits.TARGET_SIZE_MAX,
    "body_size_max": limits.BODY_SIZE_MAX,
    "connections_max": limits.CONNECTIONS_MAX,
    "connections_per_address_max": limits.CONNECTIONS_PER_ADDRESS_MAX,
    "header_timeout_ms": limits.HEADER_TIMEOUT_MS,
    "body_timeout_ms": limits.BODY_TIMEOUT_MS,
    "idle_timeout_ms": limits.IDLE_TIMEOUT_MS,
    "linger_timeout_ms": limits.LINGER_TIMEOUT_MS,
    "pipeline_count_max": limits.PIPELINE_COUNT_MAX,
    "read_ahead_size_max": limits.READ_AHEAD_SIZE_MAX,
    "parked_per_address_max": limits.PARKED_PER_ADDRESS_MAX,
    "write_buffer_size_max": limits.WRITE_BUFFER_SIZE_MAX,
    "stream_stall_timeout_ms": limits.STREAM_STALL_TIMEOUT_MS,
    "gzip_size_min": limits.GZIP_SIZE_MIN,
    "reply_cache_count_max": limits.REPLY_CACHE_COUNT_MAX,
    "reply_cache_size_max": limits.REPLY_CACHE_SIZE_MAX,
    "head_memo_count_max": limits.HEAD_MEMO_COUNT_MAX,
}


def test_every_option_has_its_default_in_the_limits() -> None:
    options = HttpOptions()
    assert {name: getattr(options, name) for name in options.__struct_fields__} == DEFAULTS


@pytest.mark.parametrize("name", DEFAULTS)
def test_no_limit_can_be_switched_off_by_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        HttpOptions(**{name: 0})  # type: ignore[arg-type]
