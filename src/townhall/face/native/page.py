"""The OpenAPI document as one readable HTML page without scripts and without anything from elsewhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["page"]

_CODE = re.compile(r"`([^`]+)`")
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem}
h1{margin:.2em 0}h2{margin:2em 0 .5em;border-bottom:1px solid var(--line);text-transform:capitalize}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.2rem .7rem}
details[open]{padding-bottom:.7rem}summary{cursor:pointer}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:var(--soft);padding:.6rem;border-radius:6px;overflow:auto}
.method{display:inline-block;width:4.8em;font-weight:700}.about{opacity:.75;margin-left:.6em}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0}
tr+tr td{border-top:1px solid var(--line)}nav a{margin-right:.8em}
"""


def page(document: Mapping[str, Any]) -> str:
    """The page of a document that ``openapi.document`` made."""
    info = document["info"]
    tags: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    links = "".join(f'<a href="#{_text(tag)}">{_text(tag)}</a>' for tag in tags)
    sections = "".join(f'<h2 id="{_text(tag)}">{_text(tag)}</h2>{"".join(rows)}' for tag, rows in tags.items())
    schemas = "".join(
        f'<details id="schema-{_text(name)}"><summary><code>{_text(name)}</code>'
        f'<span class="about">{_prose(schema.get("description", ""))}</span></summary>'
        f"{_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    about = "".join(f"<p>{_prose(part)}</p>" for part in info["description"].split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(info['title'])} {_text(info['version'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{_text(info['title'])} {_text(info['version'])}</h1>{about}<nav>{links}"
        f'<a href="#schemas">schemas</a></nav>{sections}<h2 id="schemas">schemas</h2>{schemas}</body></html>\n'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        f'<details><summary><span class="method">{_text(method.upper())}</span><code>{_text(path)}</code>'
        f'<span class="about">{_text(operation["summary"])}</span></summary>'
    ]
    if "description" in operation:
        parts.append(f"<p>{_prose(operation['description'])}</p>")
    if "parameters" in operation:
        rows = "".join(_parameter(parameter) for parameter in operation["parameters"])
        parts.append(f"<h4>Parameters</h4><table>{rows}</table>")
    if "requestBody" in operation:
        parts.append(f"<h4>Body</h4>{_content(operation['requestBody']['content'])}")
    rows = "".join(
        f"<tr><td><code>{_text(status)}</code></td><td>{_text(answer['description'])}</td>"
        f"<td>{_content(answer.get('content', {}))}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<h4>Answers</h4><table>{rows}</table></details>")
    return "".join(parts)


def _parameter(parameter: Mapping[str, Any]) -> str:
    needed = "required" if parameter["required"] else ""
    return (
        f"<tr><td><code>{_text(parameter['name'])}</code></td><td>{_text(parameter['in'])} {needed}</td>"
        f"<td>{_prose(parameter.get('description', ''))}</td></tr>"
    )


def _content(content: Mapping[str, Any]) -> str:
    return "<br>".join(f"<code>{_text(media)}</code> {_schema(entry['schema'])}" for media, entry in content.items())


def _schema(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = _text(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    return ""


def _json(schema: Mapping[str, Any]) -> str:
    return f"<pre>{_text(json.dumps(schema, indent=2))}</pre>"


def _text(text: str) -> str:
    return html.escape(str(text))


def _prose(text: str) -> str:
    """Text in which what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", _text(text))
