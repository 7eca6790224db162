"""Where the meanings of carry's alerts are: the same words as in the runbook (docs/runbook.md), which a test compares."""

from __future__ import annotations

from pathlib import Path

MEANINGS = Path(__file__).with_name("meanings.json")
