"""The funding that a tick expects: the mean of the venue's settled hours, asked for once an hour; its lack is no outage."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from evenkeel.units import HOUR_MS
from strategy.carry.decisions import Exit
from tasks.carry.expected import AGAIN_MS, KEEP_MS, LEAST_OF_HOUR_MS, expected_funding, hour_funding
from tasks.carry.watching.watcher import Watcher
from tests.carry.rig import story_rig

HISTORY = "info:fundingHistory"


async def test_a_tick_knows_the_mean_and_asks_for_it_once_an_hour(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        watcher = Watcher(rig.desk, position_id)
        seen, _, _ = await watcher.tick()
        history = await rig.desk.short.market.funding_history("SOL", hours=168)
        assert seen.funding_expected_hourly == sum(row.rate_hourly for row in history) / len(history)
        fault = rig.fault("hyperliquid", "http_500", HISTORY, times=50)
        for _ in range(3):
            again, combined, _ = await watcher.tick()
            assert again.funding_expected_hourly == seen.funding_expected_hourly
        assert fault.hits == 0, "the same hour is not asked for twice"
        assert not isinstance(combined.decision, Exit)


async def test_a_mean_that_cannot_be_read_stands_for_hours_and_is_no_outage(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        watcher = Watcher(rig.desk, position_id)
        seen, _, _ = await watcher.tick()
        fault = rig.fault("hyperliquid", "http_500", HISTORY, times=1000)
        await rig.desk.clock.sleep(3600)
        late, combined, _ = await watcher.tick()
        assert fault.hits > 0
        assert late.funding_expected_hourly == seen.funding_expected_hourly
        assert late.failed == ()
        assert "outage" not in {reason.partition(":")[0] for reason in combined.reasons}
        hits = fault.hits
        await rig.desk.clock.sleep(AGAIN_MS / 1000 / 2)
        await watcher.tick()
        assert fault.hits == hits, "not asked again at once"
        await rig.desk.clock.sleep(KEEP_MS / 1000)
        assert await expected_funding(rig.desk, "SOL") is None
        rig.heal()
        await rig.desk.clock.sleep(AGAIN_MS / 1000)
        assert await expected_funding(rig.desk, "SOL") > Decimal(0)  # type: ignore[operator]


async def test_a_young_hour_speaks_by_the_one_before_it(tmp_path: Path) -> None:
    """Seconds after the full hour the running mean is one sample: growth is judged by the hour that was settled."""
    async with story_rig(tmp_path) as rig:
        sample = Decimal("-0.01")
        assert hour_funding(rig.desk, "SOL", sample) in (None, sample), "nothing was read yet"
        await rig.desk.clock.sleep((HOUR_MS - rig.world.now_ms() % HOUR_MS) / 1000 + 30)
        await expected_funding(rig.desk, "SOL")
        [*_, newest] = await rig.desk.short.market.funding_history("SOL", hours=2)
        assert hour_funding(rig.desk, "SOL", sample) == newest.rate_hourly
        await rig.desk.clock.sleep(LEAST_OF_HOUR_MS / 1000)
        assert hour_funding(rig.desk, "SOL", sample) == sample
        assert hour_funding(rig.desk, "SOL", None) is None
