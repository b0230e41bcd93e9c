"""kratos (contrib/registry/etcd): ``/microservices/<name>/<id>`` →
``{"id":…,"name":…,"version":…,"metadata":{…},"endpoints":["grpc://host:port", …]}``.

The first endpoint is the instance's address; all that share it are named ports, by their schemes. The version is the
metadata ``version``, and ``weight`` in the metadata is the weight, as kratos' own selectors read it. Its watchers fail
as a whole on a value that they cannot read, so what is written always has every member.
"""

from __future__ import annotations

import msgspec

from townhall.core.layouts import Entry
from townhall.core.layouts.values import checked, endpoint, json_of, number_of, object_of, text_of, weight_of

__all__ = ["Kratos"]

_USUAL_SCHEME = "grpc"


class _Service(msgspec.Struct):
    id: str
    name: str
    endpoints: list[str]
    version: str = ""
    metadata: dict[str, str] | None = None


_services = msgspec.json.Decoder(_Service)


class Kratos:
    """See the head of this file."""

    name = "kratos"

    def read(self, value: bytes, *, service: str, id: str) -> Entry | None:  # noqa: A002
        """See ``Layout``. A value that names another service is nobody's: kratos' clients skip it as well."""
        found = object_of(value, _services)
        if found is None or found.name != service:
            return None
        wheres = [endpoint(text) for text in found.endpoints]
        first = wheres[0] if wheres else None
        if first is None:
            return None
        ports: dict[str, int] = {}
        for where in wheres:
            if where is not None and where[0] and where[1] == first[1]:
                ports.setdefault(where[0], where[2])
        if ports == {_USUAL_SCHEME: first[2]}:
            ports = {}
        metadata = dict(found.metadata or {})
        if found.version:
            metadata["version"] = found.version
        weight = weight_of(metadata.get("weight"))
        if weight is not None:
            del metadata["weight"]
        return checked(
            Entry(
                address=first[1],
                port=first[2],
                ports=ports,
                metadata=metadata,
                weight=1.0 if weight is None else weight,
            )
        )

    def write(self, entry: Entry, *, service: str, id: str) -> bytes | None:  # noqa: A002
        """See ``Layout``."""
        if not entry.port:
            return None
        main = next((scheme for scheme, port in entry.ports.items() if port == entry.port), _USUAL_SCHEME)
        ports = {main: entry.port} | {scheme: port for scheme, port in entry.ports.items() if scheme != main}
        endpoints = [text_of(entry.address, port, scheme) for scheme, port in ports.items()]
        if any(endpoint(text) is None for text in endpoints):  # Named ports whose names are no schemes.
            endpoints = [text_of(entry.address, entry.port, _USUAL_SCHEME)]
        metadata = dict(entry.metadata)
        version = metadata.pop("version", "")
        if entry.weight != 1:
            metadata["weight"] = str(number_of(entry.weight))
        return json_of({"id": id, "name": service, "version": version, "metadata": metadata, "endpoints": endpoints})
