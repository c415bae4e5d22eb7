"""The house: imports run one way, nothing is larger than a reader holds in the head, each package says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from tests.door import SCRIPTS

HOUSE = SCRIPTS / "doubleword"
FILES = sorted(path for path in SCRIPTS.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
PACKAGES = sorted(path.parent for path in FILES if path.name == "__init__.py")
# What may be imported, from the top down: a floor imports those below it, and modules of its own. Names without a
# package are modules of `doubleword` itself.
FLOORS = (
    ("scripts",),
    ("dataset",),
    ("compare",),
    ("commands",),
    ("report",),
    ("jobs",),
    ("results",),
    ("pricing",),
    ("batch_files",),
    ("request_lines",),
    ("answers", "tables"),
    ("cli", "engine"),
    ("server",),
    ("images", "output_file"),
    ("system",),
    ("deadlines", "failure", "quick_msgspec", "service", "strict_json", "text_encoding"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
BENEATH_ALL = "failure"  # the ground itself


def module_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(SCRIPTS).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """The modules of the house that a module imports, wherever in it."""
    known = {module_of(one) for one in FILES}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "doubleword":
            assert not node.level, "imports are absolute"
            for one in node.names:
                whole = f"{node.module}.{one.name}"
                yield whole if whole in known else f"{node.module}"


def room_of(module: str) -> str:
    """The package below `doubleword`, or the module that stands there; `scripts` for a script itself."""
    parts = module.split(".")
    return "scripts" if parts[0] != "doubleword" else parts[1] if len(parts) > 1 else "failure"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_one_way(path: Path) -> None:
    """No module imports one of a floor above its own; a script may also start the engine."""
    own = room_of(module_of(path))
    for module in imports(path):
        other = room_of(module)
        below = FLOOR_OF[other] > FLOOR_OF[own] or other == BENEATH_ALL
        assert other == own or below, f"{module_of(path)} imports {module}"
        assert other != "engine" or own in ("scripts", "engine"), "the engine is reached over HTTP"


def test_imports_have_no_circle() -> None:
    """Not between modules either."""
    order = TopologicalSorter({module_of(path): set(imports(path)) for path in FILES}).static_order()
    assert "doubleword.system" in list(order)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_is_larger_than_its_budget(path: Path) -> None:
    """A script has 80 lines, a module 350, a function 50, a class 15 methods."""
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= (80 if path.parent == SCRIPTS else 350)
    for node in ast.walk(TREES[path]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 50, node.name
        elif isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]
            assert len(methods) <= 15, node.name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_a_package_says_what_it_is_and_holds_ten_modules_at_most(package: Path) -> None:
    """Its `__init__.py` is a docstring alone, with its promises."""
    tree = TREES[package / "__init__.py"]
    text = ast.get_docstring(tree)
    assert len(tree.body) == 1 and text is not None
    assert package == HOUSE or "Promises: " in text
    assert len([one for one in package.glob("*.py") if one.name != "__init__.py"]) <= 10


def test_the_tests_mirror_the_house() -> None:
    """A package's tests stand in the folder of its name."""
    assert {package.name for package in PACKAGES if package.parent == HOUSE} <= {
        path.name for path in (SCRIPTS.parent / "tests").iterdir() if path.is_dir()
    }
