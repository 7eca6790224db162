"""What the ledger of 100 positions comes to in a year: ticks, payments, rates, prices and orders, with what is removed removed.

An hour of real ticks and of the real collection leaves rows; the same rows, an hour later each, are written through the real
store hour after hour, and once a day the real retention goes through them. What is given for a year and for a hundred positions
follows from what is measured, along lines that have bars of their own: after the first month a position grows in one piece of
time by what it grew in the piece before, beside others it takes what the one before it took, and so do the market's rows.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import func, inspect, select, text

from evenkeel.legs import FundingPayment
from evenkeel.units import DAY_MS, HOUR_MS
from state.carry.models import PositionSnapshot, PositionTable
from state.ledger_models import PriceSnapshot, RateSnapshot
from tasks.carry.books.collect import collect_with_series
from tasks.carry.books.thinning import thin_out
from tasks.carry.legs import resize_short
from tasks.carry.watching.watcher import Watcher
from tests.benchmarks.bench_growth import size_of
from tests.benchmarks.rows import Row, at_most
from tests.carry.rig import Rig, story_rig

POSITIONS, YEAR = 100, 365
DAYS, AGED, MARKET_DAYS = 91, 31, 30
"""Days of one position, of two and three positions, and of the market. After 30 days nothing is kept any closer than hourly."""
PACE_S = 30
LEDGER_MB = 2_000.0
LINEAR = 1.1
"""What a position may take beside others of what the one before it takes, and a day later on of one before it."""
ORDERS = 10
ORDERS_A_YEAR = 200
"""Of one position: resizes, for the most part."""
GROWING = {"position_snapshots", "funding_payments", "rate_snapshots", "price_snapshots"}
"""Tables that an hour adds to in which nothing happens."""
TURN_SOL = Decimal("0.5")
MB = 2**20


@dataclass(frozen=True)
class Hour:
    """What a calm hour of one position leaves, and of the market once for all."""

    snapshots: Sequence[PositionSnapshot]
    funding: Sequence[FundingPayment]
    rates: Sequence[RateSnapshot]
    prices: Sequence[PriceSnapshot]
    from_ms: int


async def rows(days: int = DAYS, aged: int = AGED, market_days: int = MARKET_DAYS) -> AsyncIterator[Row]:
    """Measure one position for months, several for some weeks, and the market."""
    half = (aged + days) // 2
    alone, order = await _kept(1, (aged, half, days))
    two, three = [(await _kept(count, (aged,)))[0][aged] for count in (2, 3)]
    market, _ = await _kept(0, (market_days // 2, market_days))
    first, second = (alone[half] - alone[aged]) / (half - aged), (alone[days] - alone[half]) / (days - half)
    grown = market[market_days] / market[market_days // 2] / market_days * (market_days // 2)
    yield Row(f"one position after {aged} days", round(alone[aged] / MB, 2), "MB")
    yield at_most("a third position, of the second", (three - two) / (two - alone[aged]), "times", LINEAR)
    yield at_most("a second position, of the first", (two - alone[aged]) / alone[aged], "times", LINEAR)
    yield at_most(f"a day after day {half}, of one after day {aged}", second / first, "times", LINEAR)
    yield at_most(f"a day of the market up to day {market_days}, of one before", grown, "times", LINEAR)
    yield Row("an order", round(order), "bytes")
    position = alone[days] + second * (YEAR - days)
    market_year = market[market_days] / market_days * YEAR
    yield Row(f"one position of {YEAR} days, without orders", round(position / MB, 2), "MB")
    yield Row(f"the market's rates and prices of {YEAR} days", round(market_year / MB, 1), "MB")
    whole = market_year + (position + order * ORDERS_A_YEAR) * POSITIONS
    yield at_most(f"the ledger of {POSITIONS} positions after {YEAR} days", whole / MB, "MB", LEDGER_MB)


async def _kept(positions: int, marks: Sequence[int]) -> tuple[dict[int, float], float]:
    """Bytes of a ledger after each of these days beyond what it began with, and what an order leaves. Without a position it is
    the market's rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with story_rig(Path(folder), strategy={"poll_interval_s": PACE_S}) as rig:
            path = Path(rig.desk.settings.database.url.removeprefix("sqlite:///"))
            name = await rig.entered(asset="jitoSOL", protocol=1)
            order = await _order_bytes(rig, name, path)
            hour = await _calm_hour(rig, name)
            names = [name, *_copies(rig, name, positions - 1)][:positions]
            begin, sizes = size_of(path), {}
            began = time.monotonic()
            for day in range(1, max(marks) + 1):
                _write_day(rig, names, hour, day)
                rig.world.clock.advance_to(float(hour.from_ms + (day + 1) * DAY_MS))
                await rig.desk.clock.refresh()
                await thin_out(rig.desk)
                if day in marks:
                    sizes[day] = float(size_of(path) - begin)
                    what = f"{positions} positions" if positions else "the market"
                    took = time.monotonic() - began
                    print(f"  {what}, {day} days: {sizes[day] / MB:.1f} MB, {took:.0f} s", flush=True)
    return sizes, order


async def _order_bytes(rig: Rig, name: str, path: Path) -> float:
    """What an order and its audit rows leave."""
    desk = rig.desk
    before = size_of(path)
    async with desk.sole_writer(name) as fence:
        for turn in range(ORDERS):
            position = desk.store.carry.position(name)
            await resize_short(desk, position, TURN_SOL if turn % 2 else -TURN_SOL, fence)
    return max(0, size_of(path) - before) / ORDERS


async def _calm_hour(rig: Rig, name: str) -> Hour:
    """Tick and collect for an hour, after a first time that brings what is read once, and return what the hour left. Raises
    where it left rows of another table.
    """
    desk, watcher = rig.desk, Watcher(rig.desk, name, is_monitor=True)
    store = desk.store
    for ticks in (2, HOUR_MS // 1000 // PACE_S):
        counts = _counts(rig)
        from_ms = desk.clock.now_ms()
        known = {one.id for one in store.rates()}, {one.id for one in store.prices()}
        for _ in range(ticks):
            await desk.clock.sleep(PACE_S)
            await watcher.tick()
        await collect_with_series(desk)
    grown = {table for table, count in _counts(rig).items() if count > counts[table]}
    if grown != GROWING:
        raise RuntimeError(f"a calm hour added rows to {sorted(grown)}, expected {sorted(GROWING)}")
    return Hour(
        snapshots=store.carry.snapshots(name, from_ms),
        funding=store.carry.funding_payments(since_ms=from_ms - HOUR_MS)[-1:],
        rates=[one for one in store.rates() if one.id not in known[0]],
        prices=[one for one in store.prices() if one.id not in known[1]],
        from_ms=from_ms,
    )


def _counts(rig: Rig) -> dict[str, int]:
    engine = rig.desk.store._engine
    with engine.connect() as db:
        tables = inspect(db).get_table_names()
        return {
            name: db.execute(select(func.count()).select_from(text(name))).scalar_one() for name in tables
        }


def _copies(rig: Rig, name: str, count: int) -> list[str]:
    """So many more positions like this one."""
    store = rig.desk.store
    row = store.carry.position(name).model_dump()
    found = [f"{name}-{number}" for number in range(count)]
    with store._write() as db:
        for one in found:
            db.execute(PositionTable.__table__.insert().values(**(row | {"position_id": one})))  # type: ignore[attr-defined]
    return found


def _write_day(rig: Rig, names: Sequence[str], hour: Hour, day: int) -> None:
    """The same hour for a day: every position's ticks and payments, or the market's rows."""
    store = rig.desk.store
    hours = [day * DAY_MS + number * HOUR_MS for number in range(24)]
    for at, one in enumerate(names):
        store.carry.record_snapshots(
            [_later(row, later_ms, position_id=one) for later_ms in hours for row in hour.snapshots]
        )
        paid = [
            row.model_copy(
                update={
                    "hour_ms": row.hour_ms + later_ms,
                    "time_ms": row.time_ms + later_ms,
                    "account": f"{row.account}-{at}",
                }
            )
            for later_ms in hours
            for row in hour.funding
        ]
        store.carry.record_funding(paid, one)
    if not names:
        store.record_rates([_later(row, later_ms) for later_ms in hours for row in hour.rates])
        store.record_prices([_later(row, later_ms) for later_ms in hours for row in hour.prices])


def _later(row: Any, later_ms: int, **also: Any) -> Any:
    return row.model_copy(update={"id": None, "at_ms": row.at_ms + later_ms, **also})


if __name__ == "__main__":

    async def _shown() -> None:
        async for row in rows():
            print(f"{row.name}: {row.value:g} {row.unit} {row.bar} {'' if row.ok else 'NO'}")

    asyncio.run(_shown())
