from __future__ import annotations

import asyncio

import pytest

from townhall.model.errors import InvalidField
from townhall.probe.ranges import Ranges, permitted_address


@pytest.mark.parametrize(
    ("allow", "deny", "address", "permitted"),
    [
        ((), (), "127.0.0.1", True),
        ((), (), "::1", True),
        ((), (), "169.254.169.254", False),
        ((), (), "::ffff:169.254.169.254", False),
        ((), (), "fe80::1", False),
        ((), (), "fe80::1%lo", False),
        ((), (), "0.0.0.0", False),
        ((), (), "224.0.0.1", False),
        ((), (), "255.255.255.255", False),
        ((), (), "localhost", False),
        ((), ("127.0.0.0/8",), "127.0.0.1", False),
        (("127.0.0.0/8",), (), "127.0.0.1", True),
        (("127.0.0.0/8",), (), "::1", False),
        (("127.0.0.0/8",), ("127.0.0.2",), "127.0.0.2", False),
        (("127.0.0.2",), ("127.0.0.0/8",), "127.0.0.2", True),
        (("127.0.0.0/8",), ("127.0.0.0/8",), "127.0.0.2", False),
        (("0.0.0.0/0",), (), "169.254.169.254", False),
        (("169.254.169.254",), (), "169.254.169.254", True),
    ],
)
def test_ranges(allow: tuple[str, ...], deny: tuple[str, ...], address: str, permitted: bool):
    assert Ranges(allow, deny).permits(address) is permitted


def test_what_is_no_network_is_refused():
    with pytest.raises(InvalidField):
        Ranges(("here",))
    with pytest.raises(InvalidField):
        Ranges((), ("127.0.0.1/99",))


def test_names_are_resolved_before_they_are_judged():
    async def main() -> None:
        assert await permitted_address("127.0.0.1", Ranges()) == "127.0.0.1"
        assert await permitted_address("localhost", Ranges()) in {"127.0.0.1", "::1"}
        for host in ("localhost", "127.0.0.1", ""):
            with pytest.raises(OSError, match=r"probed|no host"):
                await permitted_address(host, Ranges((), ("127.0.0.0/8", "::1")))

    asyncio.run(main())
