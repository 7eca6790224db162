"""A watch ends with its position and not before: not when a leg resists, a venue answers nonsense, or a read is old."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from evenkeel.legs import PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.recover import recover_everything
from state.watch_models import Severity
from tasks.carry.watching.watcher import Watcher
from tests.carry.rig import OPEN_SUBMIT, ORDER, Rig, story_rig

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


async def watched(rig: Rig, position_id: str | None, seconds: float) -> str:
    await rig.desk.clock.refresh()
    until_ms = rig.desk.clock.now_ms() + int(seconds * 1000)
    return (await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))).status


async def test_a_leg_that_resists_an_exit_is_tried_until_it_is_gone(tmp_path: Path) -> None:
    """Hyperliquid takes no order for longer than one exit tries: the long is gone, the short naked."""
    async with story_rig(tmp_path, strategy={"exit_short_window_s": 10}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "drop_request", ORDER, times=-1)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSING" and not rig.holdings() and rig.short_qty() > 0
        found = await recover_everything(rig.desk)
        assert found.still_interrupted == (position_id,) and not found.clean

        rig.heal()
        rig.fault("hyperliquid", "drop_request", ORDER, times=25)
        assert await watched(rig, None, 3600) == "CLOSED"
        assert rig.flat


async def test_a_venue_that_answers_nonsense_does_not_end_the_watch(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("asgard", "garbage", "GET /markets", times=8)
        rig.fault("hyperliquid", "garbage", "info:userFunding", times=8)

        assert await watched(rig, position_id, 600) == "OPEN"
        rig.assert_hedged()


async def test_one_old_answer_without_the_short_is_no_reason_to_exit(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        old = rig.fault("hyperliquid", "stale", "info:clearinghouseState", age_s="3600")

        assert await watched(rig, position_id, 120) == "OPEN"
        assert old.hits == 1
        rig.assert_hedged()


async def test_an_exit_decided_by_two_at_once_happens_once(tmp_path: Path) -> None:
    """The second to become its only writer finds it closed, and says so."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        real = rig.desk.sole_writer

        async with rig.another_desk() as other:

            def late(name: str):  # type: ignore[no-untyped-def]
                """Between our look at the position and our lease, the other one closes it."""
                rig.desk.sole_writer = real  # type: ignore[method-assign]
                return _after(exit_position(other, ExitRequest(position_id=position_id)), real(name))

            rig.desk.sole_writer = late  # type: ignore[method-assign, assignment]
            result = await exit_position(rig.desk, ExitRequest(position_id=position_id))

        assert result.status == "CLOSED" and result.reasons == ("it has ended already",)
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED


class _after:
    """A context that is entered only once something else has happened."""

    def __init__(self, first, context) -> None:  # type: ignore[no-untyped-def]
        self._first, self._context = first, context

    async def __aenter__(self):  # type: ignore[no-untyped-def]
        await self._first
        return await self._context.__aenter__()

    async def __aexit__(self, *error):  # type: ignore[no-untyped-def]
        return await self._context.__aexit__(*error)


async def test_a_drift_that_no_order_can_mend_raises_an_alert(tmp_path: Path) -> None:
    """The rebalancing rules may answer with an alarm too; it is kept like every other, and ends when it is over."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1, size_usd="1007")
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.01")
        assert Decimal("0.03") <= rig.long_sol() - rig.short_qty() <= Decimal("0.055")  # about 10 USD
        watcher, store = Watcher(rig.desk, position_id), rig.desk.store

        await watcher.tick()
        [alert] = [row for row in store.alerts(open_only=True) if row.kind == "delta_drift"]
        assert alert.severity is Severity.WARNING and "least order" in alert.text

        rig.market(sol_price=320.0)  # 0.05 SOL are an order now
        await watcher.tick()
        assert not [row for row in store.alerts(open_only=True) if row.kind == "delta_drift"]


async def test_an_entry_that_waits_for_a_venue_is_alarmed_and_watched_to_its_end(tmp_path: Path) -> None:
    """The opening's answer is lost and the node then falls silent: the entry gives up asking, an alert is raised, and the
    monitor, started without a name, takes it up.
    """
    async with story_rig(tmp_path) as rig:
        rig.fault("asgard", "drop_answer", OPEN_SUBMIT)
        silent = rig.fault(
            "solana", "drop_request", "rpc:get(SignatureStatuses|Transaction|SignaturesForAddress)", times=-1
        )
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "OPENING" and silent.hits
        [alert] = [row for row in rig.desk.store.alerts(open_only=True) if row.kind == "entry unresolved"]
        assert alert.severity is Severity.CRITICAL

        rig.heal()
        await watched(rig, None, 120)

        assert result.position_id is not None
        assert rig.opened_longs() == 1
        if rig.status(result.position_id) is PositionStatus.OPEN:
            rig.assert_hedged()
        else:
            assert rig.flat
        assert not [row for row in rig.desk.store.alerts(open_only=True) if row.kind == "entry unresolved"]
