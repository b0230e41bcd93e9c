"""Tokens and policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from townhall.client.records import JsonObject
from townhall.client.transport import Call, Transport, part

__all__ = ["Access"]


class Access:
    """``Registry.access``; answers are the native API's objects. Raises what every call of the API raises."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def bootstrap(self) -> JsonObject:
        """The first token, ``{"id", "secret"}``; from then on tokens are needed. Raises ``AlreadyExists``."""
        return await self._object("POST", "/bootstrap")

    async def self(self) -> JsonObject:
        """Who the presented token is and what it may do."""
        return await self._object("GET", "/self")

    async def tokens(self) -> Any:
        """All tokens, without their secrets."""
        return await self._transport.fetch(Call("GET", "/access/tokens"), Any)

    async def create_token(self, content: JsonObject) -> JsonObject:
        """A new token; its secret is shown this once."""
        return await self._object("POST", "/tokens", content)

    async def token(self, token_id: str) -> JsonObject:
        """One token. Raises ``NotFound``."""
        return await self._object("GET", f"/tokens/{part(token_id)}")

    async def put_token(self, token_id: str, content: JsonObject) -> JsonObject:
        """Change a token's policies, description or expiry."""
        return await self._object("PUT", f"/tokens/{part(token_id)}", content)

    async def delete_token(self, token_id: str) -> None:
        """Remove a token."""
        await self._transport.call(Call("DELETE", f"/access/tokens/{part(token_id)}"))

    async def policies(self) -> Any:
        """All policies."""
        return await self._transport.fetch(Call("GET", "/access/policies"), Any)

    async def put_policy(self, name: str, rules: Sequence[JsonObject], *, description: str = "") -> JsonObject:
        """Create or replace a policy."""
        return await self._object("PUT", f"/policies/{part(name)}", {"rules": list(rules), "description": description})

    async def delete_policy(self, name: str) -> None:
        """Remove a policy. Raises ``Conflict`` while tokens use it."""
        await self._transport.call(Call("DELETE", f"/access/policies/{part(name)}"))

    async def _object(self, method: str, below: str, content: JsonObject | None = None) -> JsonObject:
        body = b"" if content is None else msgspec.json.encode(content)
        response = await self._transport.call(Call(method, f"/access{below}", body=body))
        answer: Any = response.json() if response.body else {}
        return answer if isinstance(answer, dict) else {"answer": answer}
