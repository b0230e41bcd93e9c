"""What the house rules look at: the tree, parsed once."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "townhall"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path, *, package: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything a file imports, lazily or not."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def room(module: str) -> str:
    """``townhall.face.native.keys`` → ``face.native``; ``townhall.core.state`` → ``core``; the package itself → ''.

    The modules beside it (``townhall.httpx``) are front doors of the SDK's adapters and belong to the package itself;
    only ``townhall.__main__`` is one of the command line.
    """
    parts = module.split(".")[1:]
    if parts == ["__main__"]:
        return "ops"
    if len(parts) == 1 and (SOURCE / f"{parts[0]}.py").is_file():
        return ""
    if parts[:1] == ["face"] and len(parts) > 1 and (SOURCE / "face" / parts[1]).is_dir():
        return f"face.{parts[1]}"
    return parts[0] if parts else ""


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))
