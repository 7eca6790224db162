"""The units under deploy/: systemd takes them, they start what there is, and only what trades is given keys."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import app
from evenkeel.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
HOME = "/opt/evenkeel/current"
TRADING = {"evenkeel-worker.service", "evenkeel-monitors.service"}
MOST_EXPOSED = 20
"""Of 100, by systemd's own score of what a unit may still do."""


def name_of(path: Path) -> str:
    return path.name


def rendered(folder: Path) -> list[Path]:
    """The units with the commands of this environment in the place of an installed release."""
    made = []
    for path in UNITS:
        text = path.read_text().replace(f"{HOME}/.venv/bin", str(Path(sys.executable).parent))
        made.append(folder / path.name)
        made[-1].write_text(text.replace(HOME, str(ROOT)))
    return made


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_every_unit_and_finds_little_that_it_may_still_do(tmp_path: Path) -> None:
    units = rendered(tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "evenkeel" in line]
    assert (done.returncode, ours) == (0, [])
    for unit in units:
        if unit.suffix == ".service":
            words = ["security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(unit)]
            exposed = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
            assert exposed.returncode == 0, exposed.stdout[-400:] + exposed.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=name_of)
def test_a_unit_starts_a_command_that_there_is(unit: Path) -> None:
    [line] = re.findall(rf"^ExecStart={re.escape(HOME)}/\.venv/bin/(.+)$", unit.read_text(), re.MULTILINE)
    program, first, *_ = line.split()
    if program == "evenkeel":
        assert first in {
            one.name or (one.callback and one.callback.__name__) for one in app.registered_commands
        }
    elif program == "python":
        assert line == "python -m flows.serve" and (ROOT / "flows" / "serve.py").is_file()
    else:
        assert line.startswith("prefect worker start --pool evenkeel")


@pytest.mark.parametrize("unit", SERVICES, ids=name_of)
def test_keys_are_credentials_of_what_trades_and_of_nothing_else(unit: Path) -> None:
    text = unit.read_text()
    loaded = re.findall(r"^LoadCredentialEncrypted=([\w.]+):/etc/evenkeel/[\w.]+$", text, re.MULTILINE)
    named = re.findall(r"^Environment=EVENKEEL_(\w+?)__(\w+)=%d/([\w.]+)$", text, re.MULTILINE)
    assert bool(loaded) == bool(named) == (unit.name in TRADING)
    assert sorted(loaded) == sorted(name for _, _, name in named)
    for section, field, _ in named:
        assert field.lower() in type(getattr(Settings(), section.lower())).model_fields
    assert "KEY=" not in text.replace("__KEY_FILE=", ""), "a key itself never stands in a unit"


def test_the_target_wants_every_service() -> None:
    target = configparser.ConfigParser(strict=False)
    target.optionxform = str  # type: ignore[assignment,method-assign]
    target.read(ROOT / "deploy" / "systemd" / "evenkeel.target")
    assert set(target["Unit"]["Wants"].split()) == {path.name for path in SERVICES}
