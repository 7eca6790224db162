"""What the command line answers: JSON on every command, documented keys, settings found, bugs in one line."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.carry.command_rig import CarryRig, carry_rig
from tests.chaos.commands import Command
from tests.databases import by_hand

ENTER = ("enter", "--asset", "SOL", "--protocol", "1")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[CarryRig]:
    async with carry_rig(tmp_path) as found:
        yield found


async def test_every_command_answers_in_json(rig: CarryRig) -> None:
    scanned = await rig.run("scan", "--json")
    assert scanned.json()["rows"]
    planned = await rig.run("enter", "--dry-run", "--asset", "SOL", "--protocol", "kamino", "--json")
    assert (planned.code, planned.json()["status"]) == (0, "dry run")
    assert planned.json()["reasons"][0].startswith("dry run: would enter SOL on Kamino, ")
    said = " ".join(planned.json()["reasons"])
    for check in ("balances", "price consensus", "funding", "protocol capacity", "fee market", "simulation"):
        assert f"{check}: " in said, "the six checks, and what else was asked"
    plan = planned.json()["plan"]
    assert (plan["protocol"], plan["leverage"]) == ("Kamino", 3)
    assert plan["round_trip_cost_usd"] > plan["opening_cost_usd"] > 0
    assert plan["break_even_hours"] == pytest.approx(
        plan["round_trip_cost_usd"] / plan["expected_carry_usd_per_hour"], rel=0.01
    )
    refused = await rig.run("enter", "--asset", "SOL", "--protocol", "3", "--json")
    assert (refused.code, refused.json()["status"]) == (1, "refused")
    empty = await rig.run("status", "--json")
    assert {"positions", "unfinished_intents", "unowned_legs"} <= set(empty.json())
    assert empty.json()["positions"] == []

    opened = await rig.run("enter", "--json")
    assert (opened.code, opened.json()["status"]) == (0, "OPEN")
    name = opened.json()["position_id"]
    # Each command is a process with a request budget of its own; the venue counts them all, by the minute.
    rig.twins.world.clock.advance_to(rig.twins.world.now_ms() + 60_000)
    assert (await rig.run("rebalance", name, "--json")).json()["action"] == "held"
    assert (await rig.run("collect", "--json")).json()["fills"] >= 0
    seen = (await rig.run("status", "--json")).json()
    assert [one["position_id"] for one in seen["positions"]] == [name]
    assert (seen["unfinished_intents"], seen["unowned_legs"]) == ([], [])
    assert (await rig.run("recover", "--json")).json()["clean"] is True
    closed = await rig.run("exit", "--json", "--reason", "done")
    assert (closed.code, closed.json()["status"]) == (0, "CLOSED")
    rig.twins.world.clock.advance_to(rig.twins.world.now_ms() + 60_000)
    assert (await rig.run("monitor", name, "--json")).json()["status"] == "CLOSED"
    assert (await rig.run("positions", "--json")).json()["positions"][0]["close_reason"] == "done"
    account = await rig.run("report", "--json", "--out", str(rig.folder / "pictures"))
    assert account.code == 0, account
    assert account.json()["pictures"]
    assert (await rig.run("db", "upgrade", "--json")).json()["schema"]
    assert all(ended.err == "" for ended in (scanned, planned, opened, closed, account))


async def test_settings_of_a_demo_are_found_where_it_was_run(rig: CarryRig) -> None:
    """`evenkeel recover`, without --config, in the folder where `out/demo` lies."""
    place = rig.folder / "out" / "demo"
    place.mkdir(parents=True)
    shutil.copy(rig.config, place / "evenkeel.toml")
    rig.config.unlink()
    ended = await Command(["recover", "--json"], rig.folder, "bare").end()
    assert ended.code == 0, ended
    assert ended.json()["clean"] is True
    assert "using the demo's settings, out/demo/evenkeel.toml" in ended.err


async def test_a_dead_prefect_is_worked_without(rig: CarryRig) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody can answer there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        text = rig.config.read_text()
        rig.config.write_text(text.replace('api_url = ""', f'api_url = "{url}"'))
        started = time.monotonic()
        ended = await rig.run("enter", "--json")
        assert (ended.code, ended.json()["status"]) == (0, "OPEN")
        assert time.monotonic() - started < 20
        (line,) = ended.err.splitlines()
        assert "Prefect does not answer" in line


async def test_a_bug_is_one_line_with_a_way_to_see_more(rig: CarryRig) -> None:
    """A fault nobody foresaw: a row that this program could not have written."""
    assert (await rig.run(*ENTER)).code == 0
    with by_hand(rig.folder / "evenkeel.db") as database:
        database.execute("UPDATE positions SET status = 'NO SUCH STATE'")
    ended = await rig.run("positions")
    assert ended.code == 3, ended
    (line,) = ended.err.splitlines()
    assert line.startswith("evenkeel: ")
    assert "EVENKEEL_DEBUG=1" in line
    shown = await Command(
        ["--config", str(rig.config), "positions"], rig.folder, "debug", {"EVENKEEL_DEBUG": "1"}
    ).end()
    assert shown.code == 3
    assert "Traceback" in shown.err
