"""What the other pages say: the last scan, positions, the daily reports."""

from __future__ import annotations

from typing import Any

from app.pages.overview import alerts_and_pauses
from app.pages.reader import Ledger
from app.pages.rows import position_row
from app.screens import OFFER_COLUMNS, offer_cells
from state.outbox_models import MessageKind
from tasks.carry.mark import LAST_SCAN

SHOWN_REPORTS = 31


def opportunities(ledger: Ledger) -> dict[str, Any]:
    """Return what the last scan found, as `evenkeel scan` shows it; `found` is None before the first."""
    kept = ledger.store.checkpoint(LAST_SCAN)
    if kept is None:
        return {"found": None}
    found = kept.detail["found"]
    return {
        "at_ms": kept.at_ms,
        "age_s": max(0, ledger.clock.now_ms() - kept.at_ms) / 1000,
        "asked": {name: value for name, value in kept.detail["asked"].items() if value is not None},
        "found": found,
        "columns": [*OFFER_COLUMNS, "size USD", "round trip", "why"],
        "rows": [
            {
                "cells": [*offer_cells(row), f"{row['size_usd']:,.0f}", f"{row['round_trip_bps']:.1f} bps"],
                "why": row["why"],
            }
            for row in found["rows"]
        ],
    }


def alerts(ledger: Ledger) -> dict[str, Any]:
    """Return what is open for a person and what is paused."""
    return alerts_and_pauses(ledger) | {"at_ms": ledger.clock.now_ms()}


def reports(ledger: Ledger) -> dict[str, Any]:
    """Return the daily reports that the ledger keeps, the newest first, and every position."""
    store = ledger.store
    daily = store.newest_messages(SHOWN_REPORTS, MessageKind.REPORT)
    return {
        "daily": [
            {"at_ms": one.at_ms, "severity": one.severity.value, "text": one.text} for one in reversed(daily)
        ],
        "positions": [position_row(one) for one in reversed(store.carry.positions())],
    }
