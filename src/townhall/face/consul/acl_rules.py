"""Rules of Consul's ACL policies: their text, and what they mean to the core's one check.

Text is HCL or JSON. What Consul guards and this registry does not have (meshes, peerings, gossip keys) is accepted and
means nothing. ``acl`` and ``operator`` both are the core's ``operator``: tokens and policies are among what it guards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from townhall.face.consul.errors import bad
from townhall.model.access import Level, Resource, Rule
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE

__all__ = ["core_rules", "rules_text"]

_TOKEN = re.compile(
    r'\s+|#[^\n]*|//[^\n]*|/\*.*?\*/|"(?P<text>(?:[^"\\\n]|\\.)*)"|(?P<word>[A-Za-z_][A-Za-z0-9_-]*)|(?P<sign>[={}:,])',
    re.DOTALL,
)
_LEVELS = {"deny": Level.DENY, "read": Level.READ, "list": Level.READ, "write": Level.WRITE}
_SIMPLE = frozenset({"acl", "keyring", "mesh", "operator", "peering"})
_NAMED = frozenset({"agent", "event", "key", "node", "query", "service", "session", "identity"})
_SIZE_MAX = 65_536
_BLOCKS_MAX = 1_024


class _Entry(NamedTuple):
    kind: str
    name: str
    prefix: bool
    level: Level


def core_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a policy's text. Raises ``Misuse`` for text that cannot be read or names what is unknown."""
    if len(text) > _SIZE_MAX:
        raise bad(f"Failed to parse ACL rules: longer than {_SIZE_MAX} characters")
    entries = list(_json_entries(text) if text.lstrip().startswith("{") else _hcl_entries(text))
    if len(entries) > _BLOCKS_MAX:
        raise bad(f"Failed to parse ACL rules: more than {_BLOCKS_MAX} of them")
    return tuple(rule for entry in entries for rule in _meaning(entry))


def _meaning(entry: _Entry) -> Iterator[Rule]:
    kind, name, prefix, level = entry
    if kind in ("acl", "operator"):
        yield Rule(Resource.OPERATOR, level)
        for space in ("consul.acl/",) if kind == "acl" else ("consul.config/", "consul.operator/"):
            yield Rule(Resource.KEY, level, space)
    elif kind == "service":
        yield Rule(Resource.SERVICE, level, f"{DEFAULT_NAMESPACE}/{DEFAULT_GROUP}/{name}", prefix)
    elif kind == "key":
        yield Rule(Resource.KEY, level, f"consul/{_latin(name)}", prefix)
    elif kind == "session":
        yield Rule(Resource.SESSION, level, name, prefix)
    elif kind == "node":
        yield Rule(Resource.NODE, level, name, prefix)
        yield Rule(Resource.KEY, level, f"consul.coordinates/{_latin(name)}", prefix)
    elif kind == "agent":
        yield Rule(Resource.AGENT, level, "")
    elif kind == "event":
        yield Rule(Resource.KEY, level, "consul.events/")
    elif kind == "query":
        yield Rule(Resource.KEY, level, f"consul.queries/name/{_latin(name)}", prefix)
        yield Rule(Resource.KEY, level, "consul.queries/id/")


def _latin(name: str) -> str:
    """How the core's rules name keys: one character for each byte."""
    return name.encode("utf-8", "surrogateescape").decode("latin-1")


def _level(word: object) -> Level:
    level = _LEVELS.get(word) if isinstance(word, str) else None
    if level is None:
        raise bad(f"Failed to parse ACL rules: invalid policy {str(word)[:64]!r}")
    return level


def _entry(kind: str, name: str, word: object) -> _Entry:
    base = kind.removesuffix("_prefix")
    if base not in _NAMED:
        raise bad(f"Failed to parse ACL rules: unknown resource {kind[:64]!r}")
    return _Entry(base, name, base != kind, _level(word))


# --- JSON


def _json_entries(text: str) -> Iterator[_Entry]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(f"Failed to parse ACL rules: {error}") from None
    for kind, content in value.items():
        if kind in _SIMPLE:
            yield _Entry(kind, "", False, _level(content))
            continue
        if not isinstance(content, dict):
            raise bad(f"Failed to parse ACL rules: {kind[:64]!r} needs names")
        for name, given in content.items():
            yield _entry(kind, name, given.get("policy") if isinstance(given, dict) else given)


# --- HCL


def _words(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise bad(f"Failed to parse ACL rules: cannot read {text[at : at + 16]!r}")
        at = match.end()
        if match["text"] is not None:
            yield "text", re.sub(r"\\(.)", r"\1", match["text"])
        elif match["word"] is not None:
            yield "word", match["word"]
        elif match["sign"] is not None and match["sign"] != ",":
            yield "sign", match["sign"]


def _hcl_entries(text: str) -> Iterator[_Entry]:
    words = list(_words(text))
    at = 0
    while at < len(words):
        kind = words[at][1]
        if _sign(words, at + 1) == "=" and kind in _SIMPLE:
            yield _Entry(kind, "", False, _level(_word(words, at + 2)))
            at += 3
            continue
        name, given, at = _block(words, at)
        yield _entry(kind, name, given.get("policy"))


def _block(words: Sequence[tuple[str, str]], at: int) -> tuple[str, dict[str, Any], int]:
    """``kind "name" { policy = "read" … }``: name, content, and where it ends."""
    name = _word(words, at + 1)
    if _sign(words, at + 2) != "{":
        raise bad(f"Failed to parse ACL rules: expected a block after {name[:64]!r}")
    at += 3
    content: dict[str, Any] = {}
    while _sign(words, at) != "}":
        if _sign(words, at + 1) not in ("=", ":"):
            raise bad("Failed to parse ACL rules: expected an assignment")
        content[_word(words, at)] = _word(words, at + 2)
        at += 3
    return name, content, at + 1


def _sign(words: Sequence[tuple[str, str]], at: int) -> str:
    if at >= len(words):
        raise bad("Failed to parse ACL rules: unexpected end")
    return words[at][1] if words[at][0] == "sign" else ""


def _word(words: Sequence[tuple[str, str]], at: int) -> str:
    if at >= len(words) or words[at][0] == "sign":
        raise bad("Failed to parse ACL rules: expected a name or a value")
    return words[at][1]


# --- the other way round


def rules_text(rules: Sequence[Rule]) -> str:
    """Rules that were not written in Consul's words, in them; what Consul has no word for is left out."""
    words = {Level.DENY: "deny", Level.READ: "read", Level.WRITE: "write"}
    lines: list[str] = []
    for rule in rules:
        level = words[rule.level]
        base = _BASES.get(rule.resource)
        if rule.resource is Resource.OPERATOR:
            lines += [f'acl = "{level}"', f'operator = "{level}"']
        elif rule.resource is Resource.AGENT:
            lines.append(f'agent_prefix "" {{\n  policy = "{level}"\n}}')
        elif base is not None and rule.name.startswith(base):
            kind = rule.resource.value + ("_prefix" if rule.prefix else "")
            lines.append(f'{kind} {json.dumps(rule.name[len(base) :])} {{\n  policy = "{level}"\n}}')
        elif base is not None and rule.prefix and base.startswith(rule.name):
            lines.append(f'{rule.resource.value}_prefix "" {{\n  policy = "{level}"\n}}')
    return "\n".join(dict.fromkeys(lines))


_BASES = {
    Resource.SERVICE: f"{DEFAULT_NAMESPACE}/{DEFAULT_GROUP}/", Resource.KEY: "consul/", Resource.SESSION: "",
    Resource.NODE: "",
}  # fmt: skip
"""What names of ours begin with that Consul's clients can name."""
