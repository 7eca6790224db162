"""Turning a protection off makes the harness fail: without that, its passing would say nothing.

Every test run turns off one for each kind of finding; `make chaos` all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.carry.mutations import MUTATIONS, SAMPLE, Mutation

ALL = "EVENKEEL_MUTATIONS" in os.environ
TURNED_OFF = [one for one in MUTATIONS if ALL or one.breaking in SAMPLE]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each breakage's scenario finds, with the protection and without: in a process that may fork freely."""
    found_file = tmp_path_factory.mktemp("mutations") / "found.json"
    names = [one.breaking.__name__ for one in TURNED_OFF]
    command = [sys.executable, "-m", "tests.chaos.carry.mutations", str(found_file), *names]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended
    return dict(json.loads(found_file.read_text()))


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("mutation", TURNED_OFF, ids=lambda one: one.breaking.__name__)
def test_a_broken_protection_is_caught(found: dict[str, Any], mutation: Mutation) -> None:
    seen = found[mutation.breaking.__name__]
    assert seen["whole"] == [], "with its protection the product passes"
    kinds = [kind for kind, _ in seen["broken"]]
    assert mutation.finding in kinds, seen


def test_the_sample_has_every_kind_of_finding() -> None:
    assert {one.finding for one in MUTATIONS} == {one.finding for one in MUTATIONS if one.breaking in SAMPLE}
