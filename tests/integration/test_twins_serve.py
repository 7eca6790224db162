"""`python -m twins.serve`: a world that starts now, and options that make no sense."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from app.demo.environment import twins_process
from evenkeel.settings.settings import load_settings
from flows.hedging.hedge import HedgeRequest, hedge_account
from flows.hedging.opened import open_hedging
from tasks.carry.desk import open_desks
from tests.databases import make_ledger
from twins.serve import main, start_ms_of


def test_a_world_that_starts_now_keeps_the_wall_clocks_time() -> None:
    before = time.time()
    command = [sys.executable, "-m", "twins.serve", "--start", "now"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = json.loads(running.stdout.readline())
        try:
            assert before <= line["world"]["now_ms"] / 1000 + 0.01 <= time.time() + 0.01
            anchor = httpx.get(f"{line['control']['url']}/control/clock", trust_env=False).json()
            assert anchor["world_ms"] / 1000 == pytest.approx(time.time(), abs=5)
            node, socket = urlsplit(line["solana"]["url"]), urlsplit(line["solana"]["ws_url"])
            assert (node.port or 0) + 1 == socket.port
            with connect(line["solana"]["ws_url"], proxy=None) as on:
                on.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"}))
                assert json.loads(on.recv(timeout=20))["id"] == 1
                assert json.loads(on.recv(timeout=20))["method"] == "slotNotification", (
                    "blocks come by themselves"
                )
        finally:
            httpx.post(f"{line['control']['url']}/control/stop", trust_env=False)
        assert running.wait(timeout=30) == 0


async def test_a_fleet_is_served_with_settings_that_open_every_account(tmp_path: Path) -> None:
    with twins_process(["--accounts", "3", "--write", str(tmp_path)]) as line:
        settings = load_settings(Path(line["settings"]))
        make_ledger(settings.database.url)
        async with open_desks(settings) as desks:
            assert [desk.store.member for desk in desks] == ["north", "south", "east"]
            assert [(await desk.short.account()).account_value_usd for desk in desks] == [50_000] * 3
            assert len({desk.long.wallet for desk in desks}) == 3
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "keys").iterdir()} == {0}
    assert not (tmp_path / "keys" / "solana.key").exists()


@pytest.mark.timeout(900)
async def test_paper_trading_of_hedging_hedges_what_customers_take(tmp_path: Path) -> None:
    options = ["--hedging", "--write", str(tmp_path), "--start", "2026-01-06T15:00", "--stepped"]
    with twins_process(options) as line:
        settings = load_settings(Path(line["settings"]))
        make_ledger(settings.database.url)
        url = line["control"]["url"] + "/control/clock/advance"
        async with httpx.AsyncClient(trust_env=False) as control, open_hedging(settings) as at:
            for seconds in (240, 240, 240, 240, 5, 5):
                (await control.post(url, json={"seconds": seconds})).raise_for_status()
                assert (await hedge_account(at, HedgeRequest(), once=True)).failed == 0
            hedging = at.desk.store.hedging
            assert len(hedging.fills()) > 10 and len(hedging.hedges()) > 5
            open_usd = [abs(one.open_shares) * (one.price_usd or 0) for one in hedging.exposures()]
            assert max(open_usd) < 2_000, "no more than what came with the last block or two"
            assert not at.desk.store.alerts(open_only=True)


def test_a_start_is_a_time_or_now() -> None:
    assert start_ms_of(None) is None
    assert start_ms_of("2025-09-26T06:00") == 1_758_866_400_000
    assert start_ms_of("2025-09-26T08:00+02:00") == 1_758_866_400_000
    now = start_ms_of("now")
    assert now is not None and now / 1000 == pytest.approx(datetime.now(UTC).timestamp(), abs=30)
    with pytest.raises(ValueError, match="is not a time"):
        start_ms_of("yesterday")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "yesterday"], "is not a time"),
        (["--speed", "0"], "must be above 0"),
        (["--usdc", "much"], "is not a number"),
        (["--usdc", "-5"], "must be above 0"),
        (["--accounts", "0"], "must be 1 or more"),
    ],
)
def test_a_bad_option_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and words in shown.err and shown.out == ""
