"""Sizes, signatures and words that the house does not allow."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from house import rules

FILE_LINES_MAX = 500
TEST_LINES_MAX = 800
# One list of all limits is the point of it; it grows with every face.
LIST_LINES_MAX = {"limits.py": 1_000}
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
NO_ASYNC = ("model", "wire", "core", "face", "face.consul", "face.dns", "face.etcd", "face.native")
ASYNCIO = {"serve", "hub", "engine", "client", "ops", "probe", "gateway", "agent"}
# A probe must survive whatever a target makes a library do: the runner logs it, counts it and goes on.
BROAD_EXCEPT = {"serve", "hub", "probe"}

TESTS = sorted(path for folder in ("tests", "bench", "interop") for path in (rules.ROOT / folder).rglob("*.py"))
SOURCES = list(rules.modules().values())


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=rules.where)
def test_a_file_is_one_noun(path: Path) -> None:
    limit = LIST_LINES_MAX.get(path.name, FILE_LINES_MAX) if path in SOURCES else TEST_LINES_MAX
    assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize("path", SOURCES, ids=rules.where)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    for node in ast.walk(rules.tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} at line {node.lineno} has {lines} lines"
            names = [a.arg for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")]
            # Keyword-only parameters name themselves at the call, so they do not count.
            assert len(names) <= PARAMETERS_MAX, f"{node.name} at line {node.lineno} takes {len(names)} parameters"


@pytest.mark.parametrize("module", rules.modules())
def test_async_and_broad_handlers_stay_in_their_rooms(module: str) -> None:
    path, room = rules.modules()[module], rules.room(module)
    for node in ast.walk(rules.tree(path)):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            contract = module == "townhall.engine"  # the contract's append is the one awaitable of a port
            assert room in ASYNCIO or contract, f"line {node.lineno}: async in {room}"
        if isinstance(node, ast.ExceptHandler):
            caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"BaseException"}
            if caught & {"Exception", "BaseException"}:
                # Raised again, or handed to the future that somebody waits for.
                handed_on = any(
                    isinstance(n, ast.Raise) or (isinstance(n, ast.Attribute) and n.attr == "set_exception")
                    for n in ast.walk(node)
                )
                assert room in BROAD_EXCEPT or handed_on, (
                    f"{rules.where(path)}:{node.lineno}: except {caught} in {room}"
                )


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=rules.where)
def test_words_that_mean_unfinished_or_vague(path: Path) -> None:
    text = path.read_text()
    if path == Path(__file__):
        return
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError", text)
    for node in ast.walk(rules.tree(path)):
        if isinstance(node, ast.ClassDef):
            assert not re.search(r"(Manager|Impl|Util|Utils|Helper|Helpers)$", node.name), node.name


@pytest.mark.parametrize("module", rules.modules())
def test_public_things_are_named_and_documented(module: str) -> None:
    path = rules.modules()[module]
    parsed = rules.tree(path)
    assert ast.get_docstring(parsed), f"{module} has no docstring"
    for node in parsed.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name} has no docstring"
    exported = next(
        (
            node.value
            for node in parsed.body
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ),
        None,
    )
    if exported is not None:
        defined = {n.name for n in parsed.body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
        for name in ast.literal_eval(exported):
            node = next((n for n in parsed.body if getattr(n, "name", None) == name), None)
            if name in defined and node is not None:
                assert ast.get_docstring(node), f"{module}.{name} is public and has no docstring"


@functools.cache
def imported_by_unit_tests(room: str) -> set[str]:
    """Dotted names that the tests of a room import."""
    found: set[str] = set()
    for path in (rules.ROOT / "tests" / "unit" / room).rglob("*.py"):
        for _, name in rules.imports(path, package=""):
            found |= {name, name.rpartition(".")[0]}
    return found


# ``python -m townhall`` is how tests start their processes.
@pytest.mark.parametrize(
    "module", [name for name in rules.modules() if not rules.modules()[name].stem.startswith("__")]
)
def test_every_module_is_tested_in_its_room(module: str) -> None:
    # The front doors of adapters are tested with the rest of the SDK.
    room, name = rules.room(module).split(".")[0] or "client", module.rpartition(".")[2]
    folder = rules.ROOT / "tests" / "unit" / room
    named = any(name in path.stem for path in folder.rglob("test_*.py"))
    assert named or module in imported_by_unit_tests(room), (
        f"no test below {rules.where(folder)} names or imports {module}"
    )


def test_every_limit_is_used_and_tested() -> None:
    limits = rules.SOURCE / "model" / "limits.py"
    names = [
        node.target.id
        for node in rules.tree(limits).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert names
    used = {word for path in SOURCES if path != limits for word in re.findall(r"\w+", path.read_text())}
    tested = {word for path in TESTS for word in re.findall(r"\w+", path.read_text())}
    unused = [name for name in names if name not in used]
    untested = [name for name in names if name not in tested]
    assert not unused, f"limits that nothing obeys: {unused}"
    assert not untested, f"limits that no test names: {untested}"
