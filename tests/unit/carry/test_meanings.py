"""What a message says of an alert is what the runbook says of it, and every alert of the product has its row."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from state.outbox_models import Message, MessageKind
from state.watch_models import Severity
from strategy.carry.needs.listed import NEEDS
from strategy.carry.rulebook import REBALANCE_RULES, WARNINGS, WATCH_RULES
from tasks.carry.books.reconcile import ALARMS
from tasks.carry.watching.meanings import MEANINGS
from tasks.messages.compose import RUNBOOK, anchor, compose, load_meanings
from tests.runbook import rows_of_runbook

ROOT = Path(__file__).resolve().parents[3]


def test_the_words_are_those_of_the_runbook() -> None:
    assert json.loads(MEANINGS.read_text()) == rows_of_runbook(), "run `python -m tests.runbook`"


def names_in_the_code() -> Iterator[str]:
    """Every kind that stands as a text, or as a constant of its module, in a call of `alert`."""
    for folder in ("tasks", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            constants = {
                target.id: node.value.value
                for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr not in ("alert", "notify") or not node.args:
                    continue
                kind = node.args[0]
                if isinstance(kind, ast.Constant):
                    yield str(kind.value)
                elif isinstance(kind, ast.Name) and kind.id in constants:
                    yield str(constants[kind.id])


def test_every_alert_has_its_row_in_the_runbook_and_its_text() -> None:
    known = load_meanings(MEANINGS)
    raised = set(names_in_the_code()) | set(ALARMS.values())
    raised |= {one.name for one in (*WATCH_RULES, *REBALANCE_RULES, *NEEDS)}
    assert len(raised) > 40
    missing = {one for one in raised if not any(kind in (one, f"{one}:long") for kind in known)}
    warned = {one.name for one in WARNINGS}
    assert not missing
    assert warned <= set(known)
    for kind, row in known.items():
        assert row.means and (row.do or kind == "rebalance"), kind


def test_each_of_them_makes_a_letter_with_a_link_that_leads_somewhere() -> None:
    headings = {
        anchor(line.lstrip("#").strip())
        for line in (ROOT / RUNBOOK).read_text().splitlines()
        if line.startswith("#")
    }
    for kind in (known := load_meanings(MEANINGS)):
        row = Message(
            id=1,
            key="k",
            thread="t",
            kind=MessageKind.ALERT,
            about=kind,
            severity=Severity.WARNING,
            text="x",
            at_ms=1,
        )
        letter = compose(row, known)
        path, _, fragment = letter.links["runbook"].partition("#")
        assert path == RUNBOOK and fragment in headings
        assert "`" not in letter.do + letter.did and letter.title.startswith("WARNING: ")


def test_a_kind_that_nobody_described_has_its_own_text_alone() -> None:
    row = Message(
        id=1,
        key="k",
        thread="t",
        kind=MessageKind.ALERT,
        about="new",
        severity=Severity.INFO,
        text="x",
        at_ms=1,
    )
    letter = compose(row, {})
    assert (letter.text, letter.do, letter.links) == ("x", "", {})
