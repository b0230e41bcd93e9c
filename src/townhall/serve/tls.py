"""Certificates for listeners: TLS 1.2 and newer, clients' certificates when asked for, and new files without a restart.

A listener keeps the context that it was started with, so that context only hands on: in each handshake the name
callback (which OpenSSL calls with or without a name) puts the present context in its place. Session tickets are off,
because a resumed session would outlive the CA that vouched for its client.
"""

from __future__ import annotations

import ssl
from typing import Final

import msgspec

from townhall.model.errors import InvalidField

__all__ = ["Certificates", "TlsOptions"]


_HTTP: Final = ("http/1.1",)
_MIXED: Final = ("http/1.1", "h2")
"""Ours comes first: who offers both (browsers, curl) wants HTTP and JSON, and gRPC clients offer h2 alone."""
_EITHER: Final = ("h2", "http/1.1")
"""Of a gateway, to whom both are the same, and which spares clients connections with the first."""


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the certificates are (PEM files)."""

    cert_file: str
    """The server's certificate with its chain."""
    key_file: str
    client_ca_file: str = ""
    """CAs that vouch for clients; '' asks for no client certificate."""
    client_required: bool = True
    """With ``client_ca_file``: refuse clients without a certificate, or only those with a bad one."""


class Certificates:
    """Loads at construction. Raises ``InvalidField`` that names the option whose file cannot be used."""

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._present: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.reload()
        self.context = self._listener(_HTTP)
        """For ``HttpServer.start``."""
        self.mixed_context = self._listener(_MIXED)
        """The same for a server with a gRPC face."""
        self.either_context = self._listener(_EITHER)
        """The same for a gateway."""

    def reload(self) -> None:
        """Read the files again. New connections get what is in them; when one cannot be used, nothing changes.

        Raises ``InvalidField`` as at construction.
        """
        self._present = {speaks: _load(self._options, speaks) for speaks in (_HTTP, _MIXED, _EITHER)}

    def _listener(self, speaks: tuple[str, ...]) -> ssl.SSLContext:
        def hand_on(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self._present[speaks]

        context = _load(self._options, speaks)
        context.sni_callback = hand_on
        return context


def _load(options: TlsOptions, speaks: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(list(speaks))
    try:
        context.load_cert_chain(options.cert_file, options.key_file)
    except (OSError, ssl.SSLError) as error:
        files = " with ".join(dict.fromkeys((options.cert_file, options.key_file)))
        raise InvalidField("cert_file", f"{files} cannot be used: {_reason(error)}") from error
    if options.client_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED if options.client_required else ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(options.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidField(
                "client_ca_file", f"{options.client_ca_file} cannot be used: {_reason(error)}"
            ) from error
    return context


def _reason(error: OSError) -> str:
    """OpenSSL says only "PEM lib" when a file lacks the certificate or the key that is looked for."""
    if isinstance(error, ssl.SSLError) and "PEM lib" in str(error):
        return "there is no certificate, or no private key, in PEM form"
    return error.strerror or str(error)
