"""How a long run is ended and taken up again: what is played stands in one file, what has passed in another."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--named",
        type=Path,
        help="a file of names as --list prints them: these, and no story is played for them",
    )
    parser.add_argument(
        "--passed",
        type=Path,
        help="a file: what passes is added to it, and what stands in it is not played again",
    )


def names_in(path: Path, separator: str) -> list[str]:
    """The names that stand in a file, which may be all that --list has printed."""
    return [line for line in path.read_text().splitlines() if separator in line]


def has_passed(path: Path | None) -> set[str]:
    """What need not be played again."""
    return set(path.read_text().splitlines()) if path and path.exists() else set()


def note_passed(path: Path | None, name: str) -> None:
    """Keep it for the next run."""
    if path:
        with path.open("a") as file:
            file.write(name + "\n")
