"""The contract of gRPC faces: what can be tested of it without a server."""

from __future__ import annotations

from townhall.face.grpc import Code, Faces, Follow, Kind, Method, framed


def test_a_message_gets_its_prefix() -> None:
    assert framed(b"") == b"\0\0\0\0\0"
    assert framed(b"x" * 258) == b"\0\0\0\1\2" + b"x" * 258


def test_codes_are_those_of_grpc() -> None:
    assert [code.value for code in Code] == list(range(17))


def test_a_method_is_unary_unless_it_says_otherwise() -> None:
    def handler(call: object, reader: object) -> object:
        raise AssertionError

    assert Method("/a.B/C", handler).kind is Kind.UNARY


def test_what_is_followed_has_a_name() -> None:
    follow = Follow(("services", ""), list, 7)
    assert follow.name == 7


def test_a_port_may_have_one_face_or_two() -> None:
    assert Faces(None).http is None
