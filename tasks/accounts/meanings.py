"""Where the meanings of the accounts' alerts are, in the words of the runbook (docs/runbook.md, which a test compares)."""

from __future__ import annotations

from pathlib import Path

MEANINGS = Path(__file__).with_name("meanings.json")
