"""The example settings are the defaults, and every document names settings, alerts and commands that exist."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from app.cli import app
from evenkeel.settings.fleet import FleetAccount
from evenkeel.settings.settings import Settings, load_settings
from strategy.accounts.conditions import KINDS as ACCOUNT_CONDITIONS
from tasks.carry.books.collect import FOREIGN_FILL, LATE_FILL
from tasks.carry.watching.alerts import NEED_NAMES, REBALANCING_RULES, WARNING_NAMES, WATCHED_RULES
from tasks.hedging.schwab_login import WARNINGS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "evenkeel.example.toml"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_example_settings_are_exactly_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVENKEEL_CONFIG", "EVENKEEL_DATABASE__URL"):
        monkeypatch.delenv(name, raising=False)
    assert load_settings(EXAMPLE) == Settings()


def unnamed(kind: type[BaseModel], shown: dict[str, Any], text: str, path: tuple[str, ...] = ()) -> list[str]:
    """Settings of a section, and of those in it, that the example neither sets nor has in a comment of their section."""
    missing = []
    for name, field in kind.model_fields.items():
        dotted = ".".join((*path, name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            missing += unnamed(field.annotation, shown.get(name, {}), text, (*path, name))
        elif name not in shown and not re.search(rf"^# \[+{re.escape(dotted)}[\].]", text, re.MULTILINE):
            head = rf"^(?:# )?\[{re.escape('.'.join(path))}\]$"
            _, *parts = re.split(head, text, maxsplit=1, flags=re.MULTILINE)
            part = re.split(r"^(?:# )?\[", parts[0] if parts else "", maxsplit=1, flags=re.MULTILINE)[0]
            if not re.search(rf"^# {name} = ", part, re.MULTILINE):
                missing.append(dotted)
    return missing


def test_the_example_names_every_setting() -> None:
    assert unnamed(Settings, tomllib.loads(EXAMPLE.read_text()), EXAMPLE.read_text()) == []
    assert unnamed(Settings, {"log_level": "INFO", "account": ""}, "# [[fleet]]\n[admin]\n# key_hash = \n")[
        0
    ] == ("database.url")


CARRIED = {
    ("tasks/carry/watching/watcher.py", "one.rule"): WATCHED_RULES | REBALANCING_RULES,
    ("tasks/carry/watching/needs.py", "one.name"): NEED_NAMES,
    ("tasks/carry/watching/early_warnings.py", "state.name"): WARNING_NAMES,
    ("tasks/carry/books/collect.py", "found.subject"): {FOREIGN_FILL, LATE_FILL},
    ("tasks/hedging/schwab_login.py", "due.kind"): {kind for _, kind, _ in WARNINGS},
    ("tasks/accounts/alerts.py", "kind"): set(ACCOUNT_CONDITIONS),
}
"""Kinds that come in an object, by file and expression. One that is not here fails the test: say what it can be."""


def kinds_of(node: ast.expr, inside: ast.AST, names: dict[str, Any], path: str) -> set[str]:
    """Every text that an expression can be, where it is a constant, a member, a choice or put together; `*` for a part
    that is only known when it runs.
    """
    if isinstance(node, ast.IfExp):
        return kinds_of(node.body, inside, names, path) | kinds_of(node.orelse, inside, names, path)
    if isinstance(node, ast.JoinedStr):
        parts = [
            ast.literal_eval(part)
            if isinstance(part, ast.Constant)
            else _value(part.value, names)
            if isinstance(part, ast.FormattedValue)
            else None
            for part in node.values
        ]
        return {"".join("*" if part is None else str(part) for part in parts)}
    value = _value(node, names)
    if isinstance(value, str):
        return {str(value)}
    table = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    table = node.value if isinstance(node, ast.Subscript) else table
    if table is not None and isinstance(rows := _value(table, names), dict):
        return set(rows.values())
    if isinstance(node, ast.Name):
        given = [
            one.value
            for one in ast.walk(inside)
            if isinstance(one, ast.Assign) and any(ast.unparse(t) == node.id for t in one.targets)
        ]
        if given:
            return set().union(*(kinds_of(one, inside, names, path) for one in given))
    assert (path, ast.unparse(node)) in CARRIED, f"{path}: which kinds can {ast.unparse(node)} be?"
    return set(CARRIED[path, ast.unparse(node)])


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    try:
        return eval(compile(ast.Expression(node), "<kind>", "eval"), dict(names))
    except Exception:  # known only when it runs
        return None


def kinds_in(source: str, names: dict[str, Any], path: str) -> set[str]:
    """First arguments of every `….alert(…)` of a module."""
    found = set[str]()
    tree = ast.parse(source)
    functions = [one for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "alert":
                first = node.args[0] if node.args else next(k.value for k in node.keywords if k.arg == "kind")
                found |= kinds_of(first, function, names, path)
    return found


def alert_kinds() -> set[str]:
    """What the product can raise, wherever the kind's name is written."""
    found = set[str]()
    for folder in ("app", "flows", "tasks", "evenkeel"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name, source = str(path.relative_to(ROOT)), path.read_text()
            if ".alert(" in source:
                module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
                found |= kinds_in(source, vars(module), name)
    return found


def explained() -> set[str]:
    """What stands in the first column of the runbook's tables."""
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_the_runbook_explains_every_alert_and_every_rule() -> None:
    kinds = alert_kinds()
    assert {
        "leg vanished", "leg liquidated", "* leg resists closing", "short residual",
        "foreign position", "foreign fill", "late fill", "books differ", "unowned leg", "breaker tripped", "not watched",
    } <= kinds  # fmt: skip
    assert kinds >= WATCHED_RULES
    missing = sorted(kind for kind in kinds if not fnmatch.filter(explained(), kind))
    assert not missing, f"the night shift would find nothing about {missing}"


def test_a_kind_is_found_however_it_is_written() -> None:
    names = {
        "KIND": "by a constant",
        "TABLE": {"x": "by a table"},
        "Kind": StrEnum("Kind", {"ONE": "by an enum"}),
    }
    source = """
def raise_them(store, side, late, found):
    store.alert("plain", 1, "")
    store.alert(KIND, 1, "")
    store.alert(Kind.ONE, 1, "")
    store.alert(Kind.ONE.value, 1, "")
    store.alert(f"{side} {KIND}", 1, "")
    kind = "one" if late else "other"
    store.alert(kind, 1, "")
    other = TABLE.get(found.subject)
    store.alert(kind=other, severity=1, text="")
"""
    assert kinds_in(source, names, "here.py") == {
        "plain", "by a constant", "by an enum", "* by a constant", "one", "other", "by a table",
    }  # fmt: skip
    with pytest.raises(AssertionError, match=r"which kinds can found\.kind be"):
        kinds_in("def f(store, found):\n    store.alert(found.kind, 1, '')", names, "here.py")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_commands_that_exist(document: Path) -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    text = document.read_text()
    blocks = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL))
    named = set(re.findall(r"^evenkeel ([a-z]+)", blocks, re.MULTILINE)) | set(
        re.findall(r"`evenkeel ([a-z]+)", text)
    )
    assert named <= known, f"{document.name} names commands that do not exist: {sorted(named - known)}"


def test_documents_name_only_settings_that_exist() -> None:
    sections = {
        name: type(getattr(Settings(), name)).model_fields
        for name in Settings.model_fields
        if name not in ("log_level", "account", "fleet")
    } | {"fleet": FleetAccount.model_fields}
    for document in DOCUMENTS:
        for section, name in re.findall(r"`([a-z]+)\.([a-z_A-Z]+)`", document.read_text()):
            if section in sections and name not in ("py", "yaml"):
                assert name in sections[section], f"{document.name}: {section}.{name} is no setting"
