"""What a message says of an alert of managed accounts is what the runbook says of it, and each of them has its row."""

from __future__ import annotations

import json

from strategy.accounts.conditions import KINDS
from tasks.accounts.meanings import MEANINGS
from tasks.messages.compose import load_meanings
from tests.runbook import ACCOUNTS_TABLES, rows_of_runbook


def test_the_words_are_those_of_the_runbook() -> None:
    assert json.loads(MEANINGS.read_text()) == rows_of_runbook(ACCOUNTS_TABLES), (
        "run `python -m tests.runbook`"
    )


def test_every_condition_has_its_row_and_every_row_its_condition() -> None:
    known = load_meanings(MEANINGS)
    assert set(known) == set(KINDS)
    assert all(row.means and row.does and row.do for row in known.values())
