"""What the ledger of 100 positions comes to in a year: looks, payments, rates, prices and orders, with what is removed removed.

An hour of a real watch and of the real collection leaves rows; the same rows, an hour later each, are written through the real
store hour after hour, and once a day the real retention goes through them. One position is kept for a whole year, four for some
weeks: what four take at the same age is four times what one takes, or the figure of a hundred is not given.
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

POSITIONS, DAYS = 100, 365
AGED, MANY = 45, 4
"""Days and positions of the comparison; after 30 days nothing is kept any closer than hourly."""
PACE_S = 30
LEDGER_MB = 2_000.0
LINEAR = 1.1
"""What a position may take beside three others of what it takes alone, and the second half of a year of the first."""
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


async def rows(days: int = DAYS, aged: int = AGED) -> AsyncIterator[Row]:
    """Measure one position for a year, and several for some weeks."""
    alone, order = await _kept(1, days, aged)
    beside, _ = await _kept(MANY, aged, aged)
    shared = max(0.0, (MANY * alone[aged] - beside[aged]) / (MANY - 1))
    each = beside[aged] - alone[aged]
    ratio = each / (MANY - 1) / max(alone[aged] - shared, 1.0)
    yield Row(f"one position and the market after {days} days", round(alone[days] / MB, 2), "MB")
    yield Row(
        f"one position after {aged} days, without the market", round((alone[aged] - shared) / MB, 2), "MB"
    )
    yield at_most(f"a position beside {MANY - 1} others, of one alone", ratio, "times", LINEAR)
    half = (aged + days) // 2
    first, second = alone[half] - alone[aged], alone[days] - alone[half]
    yield at_most("growth of the second half of a year, of the first", second / first, "times", LINEAR)
    yield Row("an order", round(order), "bytes")
    orders = order * ORDERS_A_YEAR
    # The market is counted with every position: what is given is too much by that.
    whole = alone[days] * POSITIONS + orders * POSITIONS
    own = (alone[days] - shared * days / aged) * POSITIONS + shared * days / aged + orders * POSITIONS
    yield Row(f"{POSITIONS} positions, the market counted with each", round(whole / MB), "MB")
    yield at_most(f"the ledger of {POSITIONS} positions after {days} days", own / MB, "MB", LEDGER_MB)


async def _kept(positions: int, days: int, aged: int) -> tuple[dict[int, float], float]:
    """Bytes of a ledger after each of some days beyond what it began with, and what an order leaves."""
    with tempfile.TemporaryDirectory() as folder:
        async with story_rig(Path(folder), strategy={"poll_interval_s": PACE_S}) as rig:
            path = Path(rig.desk.settings.database.url.removeprefix("sqlite:///"))
            name = await rig.entered(asset="jitoSOL", protocol=1)
            order = await _order_bytes(rig, name, path)
            hour = await _calm_hour(rig, name)
            names = [name, *_copies(rig, name, positions - 1)]
            begin, sizes = size_of(path), {}
            began = time.monotonic()
            for day in range(1, days + 1):
                _write_day(rig, names, hour, day)
                rig.world.clock.advance_to(float(hour.from_ms + (day + 1) * DAY_MS))
                await rig.desk.clock.refresh()
                await thin_out(rig.desk)
                if day in (aged, (aged + days) // 2, days):
                    sizes[day] = float(size_of(path) - begin)
                    took = time.monotonic() - began
                    print(
                        f"  {positions} position(s), {day} days: {sizes[day] / MB:.1f} MB, {took:.0f} s",
                        flush=True,
                    )
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
    """Look and collect for an hour, after a first time that brings what is read once, and return what the hour left. Raises
    where it left rows of another table.
    """
    desk, watcher = rig.desk, Watcher(rig.desk, name, is_monitor=True)
    store = desk.store
    for looks in (2, HOUR_MS // 1000 // PACE_S):
        counts = _counts(rig)
        from_ms = desk.clock.now_ms()
        known = {one.id for one in store.rates()}, {one.id for one in store.prices()}
        for _ in range(looks):
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
    """The same hour for a day: every position's looks and payments, and the market once."""
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
    store.record_rates([_later(row, later_ms) for later_ms in hours for row in hour.rates])
    store.record_prices([_later(row, later_ms) for later_ms in hours for row in hour.prices])


def _later(row: Any, later_ms: int, **also: Any) -> Any:
    return row.model_copy(update={"id": None, "at_ms": row.at_ms + later_ms, **also})


if __name__ == "__main__":

    async def _shown() -> None:
        async for row in rows():
            print(f"{row.name}: {row.value:g} {row.unit} {row.bar} {'' if row.ok else 'NO'}")

    asyncio.run(_shown())
