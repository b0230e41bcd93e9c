"""Descriptor sets made by hand, for tests: field by field, as protoc writes them."""

from __future__ import annotations


def field(number: int, content: bytes | str | int) -> bytes:
    """One field: a number as a varint, anything else length-delimited."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def service(name: str, *methods: str) -> bytes:
    """A ServiceDescriptorProto, its methods with input types and options that nobody reads here."""
    rows = [field(2, field(1, one) + field(2, ".google.protobuf.Empty") + field(5, 1)) for one in methods]
    return field(1, name) + b"".join(rows)


def file(package: str, *services: bytes) -> bytes:
    """A FileDescriptorProto with a message among the services."""
    head = field(1, "user.proto") + (field(2, package) if package else b"")
    return head + field(4, field(1, "User")) + b"".join(field(6, one) for one in services) + field(12, "proto3")


def descriptor_set() -> bytes:
    """Two files, two services."""
    users = file("user.v1", service("Users", "Get", "Put"), service("Admin", "Ban"))
    return field(1, file("google.protobuf")) + field(1, users)
