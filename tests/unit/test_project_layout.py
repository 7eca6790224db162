"""The house as it is laid out: a layer's root knows no business, each business has its folders, nothing imports in a circle."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_project_files import PACKAGES, ROOT

LAYERS = ("flows", "tasks", "strategy", "state", "analytics")
BUSINESSES = ("carry", "accounts", "hedging", "capital", "research")
MAY_IMPORT = {"capital": {"carry"}, "research": {"carry"}}
SHARED = {
    "strategy/breakers",
    "state/migrations",
    "state/fleet",
    "state/lanes",
    "state/requests",
    "tasks/messages",
    "tasks/messages/requests",
}
"""Folders of a layer that are no business's."""
ROOMS = {"entering", "watching", "closing", "books", "fleet"}
TEST_FOLDERS = ("unit", "integration", "chaos", "fuzz", "benchmarks", "conformance")
MODULES_IN_A_FOLDER = 18

CARRY_WORDS = {"sol", "asgard", "leg", "legs", "lending", "jito"}
EXCEPTIONS = {
    "flows/flatten_all.py": "composes the kill switches of every business, whose words its form has",
    "tasks/keys.py": "opens the key of each venue, and says which venue stays shut without it",
}
"""Modules at the root of a layer that may use the words of carry, and why: opening keys, Solana's rules, hosting."""


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__")


def businesses() -> set[str]:
    """Those that have a folder in some layer."""
    return {name for name in BUSINESSES for layer in LAYERS if (ROOT / layer / name).is_dir()}


def shared_modules(layer: str) -> Iterator[Path]:
    """What a layer holds outside its businesses' folders; the history of the tables holds all of them."""
    for path in modules(ROOT / layer):
        inside = path.relative_to(ROOT / layer).parts[0]
        if inside not in BUSINESSES and inside != "migrations":
            yield path


def words_of(text: str) -> set[str]:
    """Words of prose and the parts of identifiers, in lower case: `first_leg`, `LegSide` and `legs` hold a leg."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)}


def test_the_root_of_a_layer_uses_no_word_of_carry() -> None:
    found = {
        str(path.relative_to(ROOT)): sorted(words_of(path.read_text()) & CARRY_WORDS)
        for layer in LAYERS
        for path in shared_modules(layer)
    }
    violating = {name: words for name, words in found.items() if words}
    assert set(EXCEPTIONS) <= set(violating), "an exception that nobody needs any more"
    wrong = {name: words for name, words in violating.items() if name not in EXCEPTIONS}
    assert not wrong


@pytest.mark.parametrize(
    "text", ["first_leg", "LegSide", "two legs", "sol_price_usd", "jitoSOL", "SOL-PERP", "ASGARD"]
)
def test_a_word_of_carry_is_found_in_prose_and_in_names(text: str) -> None:
    assert words_of(text) & CARRY_WORDS


@pytest.mark.parametrize("text", ["legal", "Solana", "SOLANA_SECOND", "delegated", "resolved"])
def test_other_words_that_contain_one_are_left_alone(text: str) -> None:
    assert not words_of(text) & CARRY_WORDS


def test_no_folder_of_the_product_is_crowded() -> None:
    full = {}
    for package in PACKAGES:
        if package == "twins":
            continue
        for folder in [ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())]:
            count = sum(1 for path in folder.glob("*.py") if path.name != "__init__.py")
            if count > MODULES_IN_A_FOLDER:
                full[str(folder.relative_to(ROOT))] = count
    assert not full, f"more than {MODULES_IN_A_FOLDER} modules: {full}"


def test_no_folder_is_empty() -> None:
    empty = []
    for package in (*PACKAGES, "tests"):
        for folder in (path for path in (ROOT / package).rglob("*") if path.is_dir()):
            if "__pycache__" in folder.parts or ".pytest_cache" in folder.parts:
                continue
            held = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
            if {path.name for path in held} <= {"__init__.py"}:
                empty.append(str(folder.relative_to(ROOT)))
    assert not empty, empty


def test_each_business_has_folders_of_one_name() -> None:
    not_understood = [
        str(path.relative_to(ROOT))
        for layer in LAYERS
        for path in subfolders(ROOT / layer)
        if path.name not in BUSINESSES and str(path.relative_to(ROOT)) not in SHARED
    ]
    assert not not_understood, f"neither a business nor shared: {not_understood}"
    missing = [f"{layer}/carry" for layer in LAYERS if not (ROOT / layer / "carry").is_dir()]
    assert not missing, missing
    assert {path.name for path in subfolders(ROOT / "tasks" / "carry")} == ROOMS


def test_tests_have_the_folders_of_the_businesses() -> None:
    present = businesses()
    missing = [
        f"tests/{kind}/{name}"
        for kind in ("unit", "integration")
        for name in present
        if not (ROOT / "tests" / kind / name).is_dir()
    ]
    assert not missing, missing
    named = {path.name for kind in TEST_FOLDERS for path in subfolders(ROOT / "tests" / kind)}
    assert named & set(BUSINESSES) <= present, "tests of a business that does not exist"


# --- import contracts ----------------------------------------------------------------------------------------------


def contracts() -> dict[str, dict[str, Any]]:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {one["name"]: one for one in found}


def test_the_contract_about_roots_names_every_root_and_every_business() -> None:
    contract = contracts()["The root of a layer imports no business"]
    shared = {path.replace("/", ".") + ".*" for path in SHARED if path != "state/migrations"}
    assert set(contract["source_modules"]) == {*LAYERS, *(f"{layer}.*" for layer in LAYERS), *shared}
    depths = {"*.{}", "*.{}.*", "*.{}.*.*"}
    assert set(contract["forbidden_modules"]) == {
        depth.format(name) for name in BUSINESSES for depth in depths
    }
    deepest = max(
        len(path.relative_to(ROOT / layer / name).parts)
        for name in businesses()
        for layer in LAYERS
        for path in modules(ROOT / layer / name)
    )
    assert deepest <= 2, "a business is deeper than the contract's names reach"


def test_each_business_has_its_contract() -> None:
    by_source = {
        tuple(one["source_modules"]): one for one in contracts().values() if one["type"] == "forbidden"
    }
    for name in BUSINESSES:
        others = set(BUSINESSES) - {name} - MAY_IMPORT.get(name, set())
        assert set(by_source[(f"*.{name}",)]["forbidden_modules"]) == {f"*.{other}" for other in others}


def test_no_contract_is_lost() -> None:
    assert {
        "Imports run one way: front door, flows, tasks, settings, the four trades, the ground",
        "A venue imports no other venue; Asgard may send through the Solana client",
        "Signers serve every venue and know none",
        "Hyperliquid stands alone",
        "Asgard does not know Hyperliquid",
        "A twin shares no code with what it serves",
        "Nobody but the front door starts twins",
        "Only flows, two task modules and the front door touch Prefect",
    } <= set(contracts())


# --- import circles ------------------------------------------------------------------------------------------------


def imports_when_loaded(nodes: list[ast.stmt], package: str) -> Iterator[tuple[str, list[str]]]:
    """(module, names taken from it) of every import that runs when the module is loaded: none of a function, and none under
    TYPE_CHECKING. `package` resolves relative imports.
    """
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name, [alias.name for alias in node.names]
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from imports_when_loaded(node.body, package)
            yield from imports_when_loaded(node.orelse, package)
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            yield from imports_when_loaded(node.body, package)
            if isinstance(node, ast.Try):
                handlers = [one for handler in node.handlers for one in handler.body]
                yield from imports_when_loaded([*handlers, *node.orelse, *node.finalbody], package)


def import_graph(sources: Mapping[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """By module, the modules that must be loaded before it. `sources`: text, and whether it is a package's `__init__`.

    A package that a module lies in is loaded anyway, and begins before the module does: it counts only where it is named.
    """
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, (text, is_package) in sources.items():
        package = name if is_package else name.rpartition(".")[0]
        for target, taken in imports_when_loaded(ast.parse(text).body, package):
            submodules = {f"{target}.{one}" for one in taken} & set(sources)
            named = submodules if submodules and len(submodules) == len(taken) else {target, *submodules}
            parents = {
                parent
                for one in named
                for parent in _parents(one)
                if name != parent and not name.startswith(f"{parent}.")
            }
            graph[name] |= ({*named, *parents} & set(sources)) - {name}
    return graph


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The strongly connected components of more than one module."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                waiting.extend(graph[here])
        reached[start] = seen
    return {
        frozenset(other for other in seen if start in reached[other])
        for start, seen in reached.items()
        if start in seen
    }


def product() -> dict[str, tuple[str, bool]]:
    found = {}
    for package in PACKAGES:
        for path in modules(ROOT / package):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            found[".".join(parts[:-1] if is_package else parts)] = (path.read_text(), is_package)
    return found


def test_nothing_is_imported_in_a_circle_at_run_time() -> None:
    found = circles(import_graph(product()))
    assert not found, [sorted(one) for one in found]


def test_a_circle_is_found_and_what_only_types_need_is_none() -> None:
    assert circles(
        import_graph({"a": ("import b", False), "b": ("from c import x", False), "c": ("import a", False)})
    ) == {frozenset("abc")}
    harmless = {
        "p": ("", True),
        "p.a": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import B", False),
        "p.b": ("from p import a\ndef f():\n    from p import c", False),
        "p.c": ("from .b import f", False),
    }
    assert circles(import_graph(harmless)) == set()
    through_the_package = {"p": ("from p.a import A", True), "p.a": ("from p import A", False)}
    assert circles(import_graph(through_the_package)) == {frozenset({"p", "p.a"})}
