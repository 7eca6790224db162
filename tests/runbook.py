"""The tables of the runbook that say what each alert means, as the messages to people have them.

`python -m tests.runbook` writes them to where the product reads them, after the runbook has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from tasks.accounts.meanings import MEANINGS as OF_ACCOUNTS
from tasks.carry.watching.meanings import MEANINGS

RUNBOOK = Path(__file__).parents[1] / "docs" / "runbook.md"
TABLES: dict[str, tuple[int, int | None, int]] = {
    "Alerts of the watch": (1, 2, 3),
    "Early warnings": (1, None, 3),
    "What an exit needs": (1, 2, 3),
    "Alerts of the other steps": (1, 2, 3),
}
"""By heading: the columns of what it means, what the system does and what a person does."""


ACCOUNTS_TABLES: dict[str, tuple[int, int | None, int]] = {"Alerts of managed accounts": (1, 2, 3)}
FILES = {MEANINGS: TABLES, OF_ACCOUNTS: ACCOUNTS_TABLES}
"""Where the meanings of each business are, and the tables that they come from."""


def rows_of_runbook(tables: Mapping[str, tuple[int, int | None, int]] = TABLES) -> dict[str, dict[str, str]]:
    """Return by kind of alert what these tables of the runbook say of it, in plain text."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in RUNBOOK.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:].strip()
        if heading not in tables or not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        means, does, do = tables[heading]
        for kind in re.findall(r"`([^`]+)`", cells[0]):
            found[kind] = {
                "means": plain(cells[means]),
                "does": plain(cells[does]) if does is not None else "",
                "do": plain(cells[do]),
                "heading": heading,
            }
    return found


def plain(text: str) -> str:
    """Without the marks of Markdown."""
    return text.replace("`", "").replace("*", "").strip().strip("–").strip()


def main() -> None:
    """Write the files."""
    for path, tables in FILES.items():
        path.write_text(json.dumps(rows_of_runbook(tables), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
