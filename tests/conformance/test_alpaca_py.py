"""The unmodified alpaca-py 0.44 trades on Alpaca's twin by both interfaces, and reads back what the twin's books hold.

It needs an interpreter with the client, which is no dependency of ours: `make clients` makes one in `.venv-alpaca`, and
EVENKEEL_ALPACA_PY may name another.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.alpaca_rig import AlpacaRig, alpaca_rig

SCRIPT = Path(__file__).with_name("alpaca_py_calls.py")
OWN = Path(__file__).parents[2] / ".venv-alpaca" / "bin" / "python"
VERSION = "0.44.0"
ANSWER = re.compile(rb"^ANSWER (.*)$")
MARKET = "alpaca.trading.requests.MarketOrderRequest"
TRIES = 3000
"""Readings 20 ms apart: far more than the busiest machine needs."""
CALENDAR = "alpaca.trading.requests.GetCalendarRequest"


@cache
def interpreter() -> str:
    """Return an interpreter with the client of this version; skips where none is found."""
    named = os.environ.get("EVENKEEL_ALPACA_PY") or (str(OWN) if OWN.exists() else sys.executable)
    asked = "import importlib.metadata as m; print(m.version('alpaca-py'))"
    found = subprocess.run([named, "-c", asked], capture_output=True, text=True, timeout=60)
    if found.stdout.strip() != VERSION:
        pytest.skip(
            f"no interpreter with alpaca-py {VERSION}: `make clients` makes one, EVENKEEL_ALPACA_PY may name one"
        )
    return named


class Client:
    """alpaca-py in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def asks(self, call: str, *args: Any, **request: Any) -> dict[str, Any]:
        """Return {"result"} or {"error"} of a call; `request` has the class and the fields of what the method takes."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        asked: dict[str, Any] = {"call": call, "args": args} | ({"request": request} if request else {})
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self._process.stdin.drain()
        while line := await self._process.stdout.readline():
            if found := ANSWER.match(line):
                answer: dict[str, Any] = json.loads(found.group(1))
                return answer
        raise AssertionError((await self._process.stderr.read()).decode())

    async def does(self, call: str, *args: Any, **request: Any) -> Any:
        """Return what a call returned; it must not raise."""
        answer = await self.asks(call, *args, **request)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    async def heard(self, what: str, count: int) -> list[dict[str, Any]]:
        """Return what a stream has brought, once there are so many."""
        for _ in range(TRIES):
            found: list[dict[str, Any]] = await self.does("heard", what)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(found)} of {count} updates came by {what}")


@asynccontextmanager
async def trading() -> AsyncIterator[tuple[AlpacaRig, Client]]:
    program = interpreter()
    async with alpaca_rig(is_broker=True) as rig:
        given = {
            "url": rig.url,
            "stream_url": rig.url.replace("http", "ws", 1) + "/stream",
            "account": rig.keys["account_id"],
            "trading": rig.keys["trading"],
            "broker": rig.keys["broker"],
        }
        process = await asyncio.create_subprocess_exec(
            program,
            str(SCRIPT),
            json.dumps(given),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield rig, Client(process)
        finally:
            process.kill()
            await process.wait()


def order(**fields: Any) -> dict[str, Any]:
    return {"class": MARKET, "fields": {"symbol": "AAPL", "side": "buy", "time_in_force": "day"} | fields}


async def test_alpaca_py_trades_and_reads_by_both_interfaces() -> None:
    async with trading() as (rig, client):
        # orders by quantity and by notional, one by each interface
        by_qty = await client.does("trading.submit_order", **order(qty=1.5, client_order_id="mine-1"))
        assert by_qty["status"] == "pending_new" and by_qty["qty"] == "1.5"
        by_notional = await client.does("broker.submit_order_for_account", "$account", **order(notional=500))
        assert by_notional["qty"] is None and by_notional["notional"] == "500"
        rig.later(1)
        found = await client.does("trading.get_order_by_client_id", "mine-1")
        assert found["id"] == by_qty["id"] and found["status"] == "filled" and found["filled_qty"] == "1.5"
        other = await client.does("broker.get_order_for_account_by_id", "$account", by_notional["id"])
        assert Decimal(other["filled_qty"]) == (Decimal(500) / Decimal("260.06")).quantize(
            Decimal("1E-9"), "ROUND_DOWN"
        )
        mine = await client.does("broker.get_order_for_account_by_client_id", "$account", "mine-1")
        assert mine["id"] == by_qty["id"]

        # positions and accounts agree with the twin's books
        for call, args in (
            ("trading.get_all_positions", ()),
            ("broker.get_all_positions_for_account", ("$account",)),
        ):
            (position,) = await client.does(call, *args)
            assert Decimal(position["qty"]) == rig.account.held("AAPL")
        for call, args in (("trading.get_account", ()), ("broker.get_trade_account_by_id", ("$account",))):
            account = await client.does(call, *args)
            assert Decimal(account["cash"]) == rig.account.cash and account["status"] == "ACTIVE"

        # refusals are its own errors
        again = await client.asks("trading.submit_order", **order(qty=1, client_order_id="mine-1"))
        assert "40010001" in again["error"] and "must be unique" in again["error"]
        missing = await client.asks("trading.get_order_by_client_id", "nobody's")
        assert "40410000" in missing["error"]

        # clock, calendar, asset
        clock = await client.does("trading.get_clock")
        assert (
            clock["is_open"] and (await client.does("broker.get_clock"))["next_close"] == clock["next_close"]
        )
        days = {"class": CALENDAR, "fields": {"start": "2026-11-26", "end": "2026-11-30"}}
        for of in ("trading", "broker"):
            rows = await client.does(f"{of}.get_calendar", **days)
            assert [(row["date"], row["close"][11:16]) for row in rows] == [
                ("2026-11-27", "13:00"),
                ("2026-11-30", "16:00"),
            ]
            assert (await client.does(f"{of}.get_asset", "AAPL"))["fractionable"]


async def test_alpaca_py_journals_between_accounts() -> None:
    async with trading() as (rig, client):
        other = rig.twin.engine.open_account(Decimal(0))
        fields = {"from_account": "$account", "to_account": other.id, "entry_type": "JNLC", "amount": 250.5}
        named = "alpaca.broker.requests.CreateJournalRequest"
        done = await client.does("broker.create_journal", **{"class": named, "fields": fields})
        assert done["status"] == "executed" and done["net_amount"] == 250.5
        assert other.cash == Decimal("250.5")
        (row,) = await client.does("broker.get_journals")
        assert row["id"] == done["id"]


async def test_alpaca_py_hears_trade_updates_by_both_streams() -> None:
    async with trading() as (rig, client):
        await client.does("listen")
        await client.does("events")
        for _ in range(TRIES):
            if rig.twin.streams.listening == 2:
                break
            await asyncio.sleep(0.02)
        assert rig.twin.streams.listening == 2
        rig.fault("partial", fraction="0.5", then="rest", after_s=5)
        await client.does("trading.submit_order", **order(qty=2, client_order_id="mine-2"))
        for _ in range(2):
            rig.later(10)
            await client.does("trading.get_clock")
        for what in ("events", "stream"):
            found = await client.heard(what, 3)
            assert [one["event"] for one in found] == ["pending_new", "partial_fill", "fill"]
            assert {one["order"]["client_order_id"] for one in found} == {"mine-2"}
            assert float(found[-1]["position_qty"]) == 2
