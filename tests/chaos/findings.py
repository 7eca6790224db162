"""What a scenario found wrong, when a venue was out of reach, and the search for key material in files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solders.keypair import Keypair

MISSED = "call never came"
"""Nothing was disturbed: what is asked, and how often, is not the same in every run."""
KINDS = (
    "double open",
    "unowned leg",
    "lost record",
    "naked",
    "needless exit",
    "unfinished",
    "key shown",
    MISSED,
    "other",
)


@dataclass(frozen=True)
class Outage:
    """While a part's venue did not answer, nobody could close that part: such time alone does not count against us. The
    part "*" is every part.
    """

    part: str
    from_ms: int
    until_ms: int


@dataclass
class Findings:
    """What is wrong, by kind; `naked_s`: the longest time that one side of a hedge stood alone, 0 where nothing is hedged."""

    problems: list[tuple[str, str]] = field(default_factory=list)
    naked_s: float = 0.0

    def add(self, kind: str, text: str) -> None:
        assert kind in KINDS, kind
        self.problems.append((kind, text))

    def count(self, kind: str) -> int:
        return sum(1 for one, _ in self.problems if one == kind)


def check_secrets(found: Findings, folder: Path, keys: dict[str, Any]) -> None:
    """No file of the scenario shows a key: logs, both outputs, database with its journal, settings, Prefect's home."""
    secret = [
        keys["hyperliquid"]["agent_private_key"].removeprefix("0x"),
        keys["hyperliquid"]["master_private_key"].removeprefix("0x"),
        keys["solana"]["private_key"],
        keys["asgard"]["api_key"],
    ]
    shown = [text.encode() for text in secret] + [secret[0].upper().encode(), bytes.fromhex(secret[0])]
    shown += _forms_of_solana(secret[2])
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.parent.name == "keys":
            continue
        content = path.read_bytes()
        for needle in shown:
            if needle in content:
                found.add("key shown", f"{path.name} contains key material")
                break


def _forms_of_solana(base58: str) -> list[bytes]:
    raw = bytes(Keypair.from_base58_string(base58))
    return [raw[:32], raw[:32].hex().encode(), ", ".join(map(str, raw[:32])).encode()]
