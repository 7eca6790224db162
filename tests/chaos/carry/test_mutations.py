"""Turning a protection off makes the harness fail: without that, its passing would say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.carry.mutations import MUTATIONS, Mutation


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each breakage's scenario finds, with the protection and without: in a process that may fork freely."""
    found_file = tmp_path_factory.mktemp("mutations") / "found.json"
    command = [sys.executable, "-m", "tests.chaos.carry.mutations", str(found_file)]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=220)
    assert ended.returncode == 0, ended
    return dict(json.loads(found_file.read_text()))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.breaking.__name__)
def test_a_broken_protection_is_caught(found: dict[str, Any], mutation: Mutation) -> None:
    seen = found[mutation.breaking.__name__]
    assert seen["whole"] == [], "with its protection the product passes"
    kinds = [kind for kind, _ in seen["broken"]]
    assert mutation.finding in kinds, seen
