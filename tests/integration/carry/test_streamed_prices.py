"""What a streamed price does to a watch: it brings the next look forward, and closes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import load_settings
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.watch import Watching
from tasks.carry.desk import open_desks
from tasks.carry.fleet.streaming import prices_streamed
from tasks.carry.mark import UNDERLYING
from tests.carry.fleet import fleet_rig
from tests.carry.rig import Rig, story_rig, watched
from venues import ratebudget
from venues.perp import PerpContext

SOL_ON_KAMINO: dict[str, Any] = {"asset": "SOL", "protocol": 1}
WAIT_S = 60


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def sockets_of(rig: Rig) -> int:
    return int(rig.on_twins(lambda: len(rig.twins.hyperliquid._sockets._open)))


@asynccontextmanager
async def streamed_at(
    rig: Rig, times: float, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[PerpContext]]:
    """While a watch waits, a price is streamed that is so many times the one that the venue answers."""
    streamed, real = list[PerpContext](), rig.desk.clock.sleep

    async def sleep(seconds: float) -> None:
        await real(seconds)
        context = rig.desk.short.market.last_context(UNDERLYING)
        if context is not None:
            px = context.oracle_px * Decimal(times)
            streamed.append(context.model_copy(update={"oracle_px": px, "mark_px": px}))
            rig.desk.danger.moved(streamed[-1])

    with monkeypatch.context() as patch:
        patch.setattr(rig.desk.clock, "sleep", sleep)
        yield streamed


async def test_a_price_near_the_exit_brings_the_next_tick_forward_and_closes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 30}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        before = rig.fingerprint()
        async with streamed_at(rig, 1.01, monkeypatch) as streamed:
            calm = await watched(rig, position_id, 120)
        assert streamed and calm.ticks <= 5
        async with streamed_at(rig, 0.5, monkeypatch) as streamed:
            woken = await watched(rig, position_id, 120)
        assert woken.ticks >= 2 * calm.ticks, "each look finds nothing, and the next price is as near"
        assert not woken.actions and woken.status is PositionStatus.OPEN
        assert rig.fingerprint() == before and not rig.desk.store.alerts(open_only=True)


async def test_one_connection_moves_the_distances_of_every_account(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path, strategy={"poll_interval_s": 30}) as rig:
        names = []
        for desk in rig.desks:
            result = await enter_position(desk, EnterRequest(**SOL_ON_KAMINO))
            assert result.position_id is not None, result
            names.append(result.position_id)
        ended = asyncio.Event()
        watching = asyncio.create_task(Watching(rig.desks).run(ended))
        danger = rig.desk.danger
        await until(lambda: set(danger.standing) == set(names) and sockets_of(rig) == 1)
        before = rig.desk.stream
        assert before is not None and all(desk.stream is before for desk in rig.desks)
        rig.market(sol_price=203.0)
        await until(lambda: all(one.price and one.price.oracle_px == 203 for one in danger.standing.values()))
        # A price that jumps between what is streamed and what is answered may have ended that one: there is one in its place.
        assert sockets_of(rig) <= 1
        await until(lambda: sockets_of(rig) == 1)
        ended.set()
        await watching
        await until(lambda: sockets_of(rig) == 0)
        assert not danger.standing, "nothing is followed that is not watched"


async def test_without_the_setting_nothing_is_connected(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        text = rig.config.read_text().replace("[hyperliquid]", "[hyperliquid]\nstream = false", 1)
        rig.config.write_text(text)
        async with open_desks(load_settings(rig.config)) as [desk], prices_streamed(desk):
            assert desk.stream is None and sockets_of(rig) == 0


async def test_what_an_exit_asks_goes_before_what_is_calm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        budget, lanes = rig.desk.short.budget, list[tuple[ratebudget.Lane, str]]()
        real = budget.spend

        async def spend(weight: float = 1.0) -> None:
            lanes.append((ratebudget._lane.get(), rig.status(position_id)))
            await real(weight)

        monkeypatch.setattr(budget, "spend", spend)
        await watched(rig, position_id, 20)
        assert {lane for lane, _ in lanes} == {ratebudget.Lane.CALM}
        lanes.clear()
        rig.funding_was(-0.005)
        result = await watched(rig, position_id, 120)
        assert result.status is PositionStatus.CLOSED
        closing = [lane for lane, status in lanes if status == PositionStatus.CLOSING]
        assert closing and set(closing) == {ratebudget.Lane.URGENT}
