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
RUN = ROOT / "deploy" / "evenkeel-run"
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
HOME = "/opt/evenkeel/current"
INSTEAD = "evenkeel-watch.service"
"""In the place of the monitors, for who chooses it."""
HEDGING = "evenkeel-hedging@.service"
BESIDE = ("watchdog", "sender", "desk")
"""Units that an instance of hedging has too, for its own settings and ledger."""
TRADING = {"evenkeel-worker.service", "evenkeel-monitors.service", INSTEAD}
SPEAKING = {"evenkeel-sender.service", "evenkeel-sender@.service", "evenkeel-monitors.service", INSTEAD}
KEYS = {"hyperliquid.key", "solana.key", "asgard.key"}
BROKER = {"alpaca.key", "alpaca.secret"}
CHANNELS = {"slack-token", "webhook-secret", "mail-login"}
MOST_EXPOSED = 20
"""Of 100, by systemd's own score of what a unit may still do."""


def keys_of(unit: str) -> set[str]:
    """What a unit is given of keys that move money."""
    return KEYS if unit in TRADING else BROKER if unit == HEDGING else set()


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
    if line == "evenkeel hedging run":
        assert any(one.name == "hedging" for one in app.registered_groups)
    elif program == "evenkeel":
        assert first in {
            one.name or (one.callback and one.callback.__name__) for one in app.registered_commands
        }
    elif program == "python":
        assert line == "python -m flows.serve" and (ROOT / "flows" / "serve.py").is_file()
    else:
        assert line.startswith("prefect worker start --pool evenkeel")


@pytest.mark.parametrize("unit", SERVICES, ids=name_of)
def test_secrets_are_credentials_of_what_needs_them_and_of_nothing_else(unit: Path) -> None:
    text = unit.read_text()
    # What not everybody has is a comment: a credential whose file is missing keeps a unit from starting.
    given = set(re.findall(r"^LoadCredentialEncrypted=([\w.-]+):", text, re.MULTILINE))
    assert given == keys_of(unit.name)
    loaded = re.findall(
        r"^#?LoadCredentialEncrypted=([\w.-]+):/etc/evenkeel/(?:%i-)?[\w.-]+$", text, re.MULTILINE
    )
    named = re.findall(r"^#?Environment=EVENKEEL_(\w+?)__(\w+)=%d/([\w.-]+)$", text, re.MULTILINE)
    wanted = keys_of(unit.name) | (CHANNELS if unit.name in SPEAKING else set())
    wanted |= {"slack-app-token"} if unit.name == "evenkeel-sender.service" else set()
    assert set(loaded) == wanted and len(loaded) == len(wanted)
    assert sorted(loaded) == sorted(name for _, _, name in named)
    for section, field, _ in named:
        found = getattr(Settings(), section.lower())
        *inner, last = field.lower().split("__")
        for name in inner:
            found = getattr(found, name)
        assert last in type(found).model_fields
    assert "KEY=" not in text.replace("__KEY_FILE=", ""), "a key itself never stands in a unit"


def test_the_target_wants_every_service() -> None:
    target = configparser.ConfigParser(strict=False)
    target.optionxform = str  # type: ignore[assignment,method-assign]
    target.read(ROOT / "deploy" / "systemd" / "evenkeel.target")
    always = {path.name for path in SERVICES if "@" not in path.name} - {INSTEAD}
    assert set(target["Unit"]["Wants"].split()) == always


def test_what_stands_in_the_place_of_the_monitors_is_as_hard_as_they_are() -> None:
    def allowed(name: str) -> list[str]:
        text = (ROOT / "deploy" / "systemd" / name).read_text()
        return text.partition("\nUser=")[2].splitlines()

    assert allowed(INSTEAD) == allowed("evenkeel-monitors.service")


def allowed_of(name: str) -> list[str]:
    """What a unit may do, without what an instance has of its own."""
    text = (ROOT / "deploy" / "systemd" / name).read_text().partition("\nUser=")[2]
    own = ("# Where an account is locked", "Environment=EVENKEEL_DATABASE__LIMITS_FOLDER=")
    lines = [line for line in text.splitlines() if not line.startswith(own)]
    return [line.replace("%i.toml", "evenkeel.toml").replace("emergency-%i", "emergency") for line in lines]


def test_an_instance_of_hedging_is_as_hard_as_the_monitors_and_names_its_own_settings() -> None:
    assert allowed_of(HEDGING) == allowed_of("evenkeel-monitors.service")
    for name in BESIDE:
        assert allowed_of(f"evenkeel-{name}@.service") == allowed_of(f"evenkeel-{name}.service")
    for unit in SERVICES:
        config = "%i" if "@" in unit.name else "evenkeel"
        assert (
            f"EVENKEEL_CONFIG=/etc/evenkeel/{config}.toml" in unit.read_text()
            or unit.name == "evenkeel-server.service"
        )


@pytest.mark.parametrize("unit", SERVICES, ids=name_of)
def test_what_is_not_allowed_fails_and_does_not_kill(unit: Path) -> None:
    """Charts are drawn by a library that asks for memory protection keys, which @system-service has not."""
    lines = unit.read_text().splitlines()
    assert "SystemCallFilter=@system-service @pkey" in lines and "SystemCallErrorNumber=EPERM" in lines


def test_what_watches_goes_before_pages_and_schedules() -> None:
    weighed = {unit.name for unit in SERVICES if "\nCPUWeight=500\n" in unit.read_text()}
    assert weighed == {"evenkeel-monitors.service", INSTEAD, HEDGING}


def test_prefects_pages_are_copied_to_where_the_server_may_write() -> None:
    text = (ROOT / "deploy" / "systemd" / "evenkeel-server.service").read_text()
    assert "PREFECT_UI_STATIC_DIRECTORY=/var/lib/evenkeel/" in text


@pytest.mark.parametrize(("instance", "journal"), [("", "emergency"), ("coin", "emergency-coin")])
def test_a_command_of_the_operator_runs_with_the_keys_that_there_are(
    tmp_path: Path, instance: str, journal: str
) -> None:
    """In the place of systemd-run, which needs a host's: something that does with options and command what it does."""
    (tmp_path / "deploy").mkdir()
    command = tmp_path / "deploy" / "evenkeel-run"
    shutil.copy(RUN, command)
    (tmp_path / "linked").symlink_to(command)
    program = tmp_path / ".venv" / "bin" / "evenkeel"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@"; env | grep ^EVENKEEL_ | sort\n')
    (tmp_path / "credentials").mkdir()
    for name in ("solana.key", "alpaca.key", "slack-app-token"):  # the last is for the sender alone
        (tmp_path / "credentials" / name).write_text("x")
    stand_in = tmp_path / "bin" / "systemd-run"
    stand_in.parent.mkdir()
    stand_in.write_text(
        '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do\n'
        '  case "$1" in --setenv=*) export "${1#--setenv=}" ;; esac\n  shift\ndone\n'
        f'CREDENTIALS_DIRECTORY={tmp_path}/credentials exec "$@"\n'
    )
    for path in (program, stand_in):
        path.chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "linked"), "flatten", "--all", "--reason", "two words"],
        env={"PATH": f"{stand_in.parent}:/usr/bin:/bin"}
        | ({"EVENKEEL_INSTANCE": instance} if instance else {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    first, *rest = done.stdout.splitlines()
    assert (done.returncode, first) == (0, "flatten --all --reason two words"), done.stderr
    assert [line for line in rest if not line.startswith("EVENKEEL_INSTANCE")] == [
        f"EVENKEEL_CONFIG=/etc/evenkeel/{instance or 'evenkeel'}.toml",
        f"EVENKEEL_DATABASE__EMERGENCY_JOURNAL=/var/lib/evenkeel/{journal}.jsonl",
        f"EVENKEEL_HEDGING__ALPACA__KEY_FILE={tmp_path}/credentials/alpaca.key",
        f"EVENKEEL_SOLANA__KEY_FILE={tmp_path}/credentials/solana.key",
    ]
