"""Every module can be imported: also the programs that only `make bench`, `make chaos` and `make fuzz` run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("tests/benchmarks", "tests/chaos", "tests/fuzz", "tests/attacks")


@pytest.mark.parametrize("folder", PROGRAMS)
def test_programs_of_the_tests_import(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} is gone: take it off the list"
    for file in files:
        if file.name != "__main__.py":
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
