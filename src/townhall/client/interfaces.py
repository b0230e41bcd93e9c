"""What a service offers: its methods, schemas and documents, and the revision that names all of it.

The registry carries the revision alone, in the metadata of each instance (``REVISION_KEY``); the document is fetched
once for each revision, from the registry or from an instance (``interface_book``). So the halves of a service whose
interfaces differ during a roll-out are told apart, and the catalogue stays small.

The document is one JSON object, its keys sorted and without white space, what is absent left out::

    {"descriptor_set":"<base64>","format":1,"methods":["GET /users/{id}"],"openapi":{…},"schemas":{…}}

The revision is the first half of the SHA-256 of these bytes, in hex. Who reads one checks the hash of the bytes it got,
and need not be able to make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from townhall.client.descriptors import method_names
from townhall.model import limits
from townhall.model.errors import InvalidField, Malformed, PeerMisbehaved, TooLarge

__all__ = ["REVISION_KEY", "Difference", "Interfaces", "difference", "is_revision", "revision_of"]

REVISION_KEY = "interfaces_revision"
"""Of an instance's metadata."""
_FORMAT = 1
_REVISION_SIZE = 32
_HEX = frozenset("0123456789abcdef")
_VERBS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
"""The fields of an OpenAPI path item that are operations (OpenAPI 3.1 §4.8.9)."""


class _Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: int | UnsetType = UNSET
    methods: tuple[str, ...] = ()
    openapi: msgspec.Raw | UnsetType = UNSET
    descriptor_set: bytes = b""
    schemas: msgspec.Raw | UnsetType = UNSET


class Interfaces:
    """Immutable; two are equal when their revisions are.

    ``methods`` are names as callers will ask for them; those of the OpenAPI document (``GET /users/{id}``) and of the
    protobuf descriptor set (``user.v1.Users/Get``) are added to them. Raises ``InvalidField`` or ``TooLarge``.
    """

    __slots__ = ("_document", "_names", "data", "revision")

    def __init__(
        self,
        *,
        methods: Iterable[str] = (),
        openapi: Mapping[str, Any] | str | bytes | None = None,
        descriptor_set: bytes = b"",
        schemas: Mapping[str, Any] | None = None,
    ) -> None:
        described = _openapi(openapi)
        try:
            from_descriptors = method_names(descriptor_set)
        except Malformed as error:
            raise InvalidField("descriptor_set", error.message) from error
        names = sorted({*methods, *_operations(described), *from_descriptors})
        given = {"openapi": described, "descriptor_set": descriptor_set, "schemas": schemas and dict(schemas)}
        content = {"format": _FORMAT, "methods": names, **{name: one for name, one in given.items() if one}}
        if not names and len(content) == 2:
            raise InvalidField("interfaces", "say what is offered: methods=, openapi=, descriptor_set= or schemas=")
        try:
            data = msgspec.json.encode(content, order="sorted")
        except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
            advice = "keys must be text, also those of status codes"
            raise InvalidField("interfaces", f"cannot be written as JSON: {error}", advice=advice) from error
        if len(data) > limits.CLIENT_INTERFACES_SIZE_MAX:
            raise TooLarge(
                f"the document of interfaces has {len(data)} bytes, at most {limits.CLIENT_INTERFACES_SIZE_MAX}",
                advice="leave out examples and descriptions, or give methods= alone",
                limit=limits.CLIENT_INTERFACES_SIZE_MAX,
            )
        self._take(data, _read(data))

    @classmethod
    def read(cls, data: bytes, revision: str) -> Interfaces:
        """The interfaces that these bytes hold. Raises ``PeerMisbehaved`` unless they are those of this revision."""
        if len(data) > limits.CLIENT_INTERFACES_SIZE_MAX:
            raise PeerMisbehaved(f"a document of interfaces of {len(data)} bytes")
        found = _hash(data)
        if found != revision:
            raise PeerMisbehaved(f"the document hashes to {found}, not to {revision[:_REVISION_SIZE]!r}")
        try:
            document = _read(data)
        except InvalidField as error:
            raise PeerMisbehaved(f"not a document of interfaces: {error.message}") from error
        self = cls.__new__(cls)
        self._take(data, document)
        return self

    def _take(self, data: bytes, document: _Document) -> None:
        self.data = data
        """The document's bytes."""
        self.revision = _hash(data)
        self._document = document
        services = {name.rpartition("/")[0] for name in document.methods if " " not in name}
        self._names = frozenset(document.methods) | (services - {""})

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of all methods, sorted."""
        return self._document.methods

    @property
    def openapi(self) -> Any:
        """The OpenAPI document, decoded anew each time; None without one."""
        return _value(self._document.openapi)

    @property
    def descriptor_set(self) -> bytes:
        """A serialized ``google.protobuf.FileDescriptorSet``; empty without one."""
        return self._document.descriptor_set

    @property
    def schemas(self) -> dict[str, Any]:
        """Schemas by name, decoded anew each time."""
        return _value(self._document.schemas) or {}

    def offers(self, name: str) -> bool:
        """Whether it has this method, or, for ``package.Service``, any method of that service."""
        return name in self._names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interfaces) and other.revision == self.revision

    def __hash__(self) -> int:
        return hash(self.revision)

    def __repr__(self) -> str:
        return f"<Interfaces {self.revision}: {len(self.methods)} methods, {len(self.data)} bytes>"


class Difference(NamedTuple):
    """From one revision to another."""

    added: tuple[str, ...]
    """Methods that only the new one has."""
    removed: tuple[str, ...]
    """Methods that only the old one has: who calls them must not meet the new one."""
    changed: tuple[str, ...]
    """Documents that differ, also where no method came or went: ``openapi``, ``descriptor_set``, ``schemas``."""


def difference(old: Interfaces, new: Interfaces) -> Difference:
    """What callers of the old one meet at the new one. Whether changed schemas are compatible is not judged."""
    before, after = set(old.methods), set(new.methods)
    parts = ("openapi", "descriptor_set", "schemas")
    changed = tuple(part for part in parts if getattr(old, part) != getattr(new, part))
    return Difference(tuple(sorted(after - before)), tuple(sorted(before - after)), changed)


def is_revision(text: str) -> bool:
    """Whether it has the form of one, so that it may stand in a path: metadata is what anybody registers."""
    return len(text) == _REVISION_SIZE and _HEX.issuperset(text)


def revision_of(metadata: Mapping[str, str]) -> str:
    """The revision that an instance's metadata names; '' for none, or what is none."""
    text = metadata.get(REVISION_KEY, "")
    return text if is_revision(text) else ""


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()[:_REVISION_SIZE]


def _read(data: bytes) -> _Document:
    """The document, its names checked. Raises ``InvalidField``."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField("interfaces", str(error)) from error
    if document.format != _FORMAT:
        raise InvalidField("interfaces", f"format {document.format}, only {_FORMAT} is known here")
    if len(document.methods) > limits.CLIENT_METHODS_COUNT_MAX:
        raise InvalidField("methods", f"{len(document.methods)}, at most {limits.CLIENT_METHODS_COUNT_MAX}")
    for name in document.methods:
        if not name or len(name) > limits.CLIENT_METHOD_SIZE_MAX or not name.isprintable():
            raise InvalidField("methods", f"{name[:80]!r} is empty, too long or not printable")
    return document


def _value(raw: msgspec.Raw | UnsetType) -> Any:
    return None if raw is UNSET else msgspec.json.decode(raw)


def _openapi(given: Mapping[str, Any] | str | bytes | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    try:
        return msgspec.json.decode(given, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField("openapi", f"is not a JSON object: {error}") from error


def _operations(openapi: Mapping[str, Any]) -> Sequence[str]:
    """``GET /users/{id}`` for each operation of an OpenAPI document, its first server's path not added."""
    paths = openapi.get("paths")
    if not isinstance(paths, Mapping):
        return ()
    return [
        f"{verb.upper()} {path}"
        for path, item in paths.items()
        if isinstance(item, Mapping)
        for verb in item
        if verb in _VERBS
    ]
