"""Names, addresses and values: what is let in, what is refused, and that the refusal names the field."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model import limits, names
from townhall.model.errors import InvalidField


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (names.namespace, ["default", "public", "a", "team-1.x_y", "9f3c"]),
        (names.service, ["web", "DEFAULT_GROUP@@orders", "providers:com.acme.Hello:1.0:g", "größe", "a.b-c_d"]),
        (names.instance_id, ["web-1", "127.0.0.1#8080#DEFAULT#G@@s", "host:app:8080", "a/b", "größe"]),
        (names.address, ["127.0.0.1", "::1", "fe80::1", "web.internal", "my_host", "a.b.", "xn--bcher-kva"]),
    ],
)
def test_names_that_clients_of_the_field_use(check: Callable[[str], str], good: list[str]) -> None:
    for value in good:
        assert check(value) == value


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (names.namespace, ["", ".a", "-a", "a b", "a/b", "é", "a" * (limits.NAMESPACE_SIZE_MAX + 1)]),
        (names.service, ["", "a b", "a/b", "a?b", "a%20b", "a\x00b", "a\x7f", "a\u00a0b", "\ud800", "s" * (limits.SERVICE_SIZE_MAX + 1)]),
        (names.instance_id, ["", "a b", 'a"b', "a\nb", "\udfff", "i" * (limits.INSTANCE_ID_SIZE_MAX + 1)]),
        (
            names.address,
            ["", "0.0.0.0", "::", "224.0.0.1", "1.2.3", "256.1.1.1", "-a.b", "a..b", "a b", "[::1]", "127.0.0.1:80", "h" * (limits.ADDRESS_SIZE_MAX + 1)],
        ),
    ],
)  # fmt: skip
def test_names_that_are_refused(check: Callable[[str], str], bad: list[str]) -> None:
    for value in bad:
        with pytest.raises(InvalidField) as refused:
            check(value)
        assert refused.value.fields["field"] in str(refused.value)


def test_multibyte_names_are_measured_in_bytes() -> None:
    with pytest.raises(InvalidField, match="bytes"):
        names.service("ü" * (limits.SERVICE_SIZE_MAX // 2 + 1))


def test_ports() -> None:
    assert [names.port(1), names.port(limits.PORT_MAX), names.port(0, zero=True)] == [1, limits.PORT_MAX, 0]
    for bad in (0, -1, limits.PORT_MAX + 1, True, 80.0, "80"):
        with pytest.raises(InvalidField):
            names.port(bad)  # type: ignore[arg-type]
    assert names.ports({"grpc": 9090}) == {"grpc": 9090}
    with pytest.raises(InvalidField, match=r"ports\.grpc"):
        names.ports({"grpc": 0})
    with pytest.raises(InvalidField):
        names.ports({f"p{n}": 1 for n in range(limits.PORTS_COUNT_MAX + 1)})


def test_weights() -> None:
    assert names.weight(0) == 0.0
    assert names.weight(limits.WEIGHT_MAX) == limits.WEIGHT_MAX
    for bad in (math.nan, math.inf, -math.inf, -0.1, limits.WEIGHT_MAX + 1):
        with pytest.raises(InvalidField):
            names.weight(bad)


def test_tags_keep_their_order_and_lose_repeats() -> None:
    assert names.tags(["b", "a", "b"]) == ("b", "a")
    for bad in ([""], ["a\x01"], ["t" * (limits.TAG_SIZE_MAX + 1)], [str(n) for n in range(limits.TAGS_COUNT_MAX + 1)]):
        with pytest.raises(InvalidField, match="tags"):
            names.tags(bad)


def test_metadata() -> None:
    assert names.metadata({"zone": "b", "empty": "", "text": "two\nlines\tand a tab"}) == {
        "zone": "b", "empty": "", "text": "two\nlines\tand a tab",
    }  # fmt: skip
    large = {
        str(n): "v" * limits.METADATA_VALUE_SIZE_MAX
        for n in range(limits.METADATA_SIZE_MAX // limits.METADATA_VALUE_SIZE_MAX + 1)
    }
    for bad in (
        {"": "x"},
        {"k\x00": "x"},
        {"k": "\x1b[31m"},
        {"k" * (limits.METADATA_KEY_SIZE_MAX + 1): "x"},
        {"k": "v" * (limits.METADATA_VALUE_SIZE_MAX + 1)},
        {str(n): "v" for n in range(limits.METADATA_COUNT_MAX + 1)},
        large,
    ):
        with pytest.raises(InvalidField, match="metadata"):
            names.metadata(bad)


def test_labels() -> None:
    assert names.label("zone b", "zone") == "zone b"
    assert names.label("", "zone", empty=True) == ""
    for bad in ("", "z" * (limits.LABEL_SIZE_MAX + 1), "a\x07", "two\nlines"):
        with pytest.raises(InvalidField, match="zone"):
            names.label(bad, "zone")


@given(st.text(max_size=600))
def test_any_text_is_accepted_unchanged_or_refused(value: str) -> None:
    for check in (names.namespace, names.service, names.instance_id, names.address):
        try:
            accepted = check(value)
        except InvalidField:
            continue
        assert accepted == value
        assert value.isprintable()
        assert value.encode("utf-8")


def accepted(check: Callable[[], object]) -> object:
    try:
        return check()
    except InvalidField as error:
        return error.message


OCTETS = st.one_of(st.integers(0, 260).map(str), st.sampled_from(["00", "01", "0", "255", "256", "", "1 ", "\u0661"]))


@given(st.lists(OCTETS, min_size=3, max_size=5).map(".".join))
def test_the_quick_look_at_an_ipv4_address_agrees_with_the_exact_one(value: str) -> None:
    if names._IPV4.fullmatch(value):
        ip = ipaddress.IPv4Address(value)
        assert not ip.is_unspecified
        assert not ip.is_multicast
        assert str(ip) == value


ODD = st.text(st.sampled_from("ab\x00\t\n\x7fé\u202e\ud800"), max_size=4)


@given(st.lists(ODD, max_size=3), st.dictionaries(ODD, ODD, max_size=3))
def test_the_quick_look_at_many_texts_agrees_with_the_one_at_each(tags: list[str], metadata: dict[str, str]) -> None:
    quick = accepted(lambda: names.tags(tags)), accepted(lambda: names.metadata(metadata))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_plain", lambda joined, size_max: False)
        assert quick == (accepted(lambda: names.tags(tags)), accepted(lambda: names.metadata(metadata)))


def test_the_quick_look_knows_the_limits_of_each_text() -> None:
    names.tags(["a" * limits.TAG_SIZE_MAX, "b" * limits.TAG_SIZE_MAX])
    names.metadata({"a" * limits.METADATA_KEY_SIZE_MAX: "b" * limits.METADATA_VALUE_SIZE_MAX, "c": "d"})
    for bad in ({"a" * (limits.METADATA_KEY_SIZE_MAX + 1): ""}, {"a": "b" * (limits.METADATA_VALUE_SIZE_MAX + 1)}):
        with pytest.raises(InvalidField):
            names.metadata(bad)
    with pytest.raises(InvalidField):
        names.tags(["a" * (limits.TAG_SIZE_MAX + 1)])
