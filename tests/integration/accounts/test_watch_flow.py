"""The flows as a run executes them, in a process of their own: by the settings of the host, its ledger and its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evenkeel.clock import Clock
from evenkeel.settings.settings import Settings, load_settings
from flows.accounts.collect import collect_shares
from flows.accounts.watch import AccountsWatchRequest, watch
from state.store import Store
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tasks.desk import make_clock
from tests.chaos.accounts.bed import accounts_bed, missing
from tests.chaos.accounts.business import CLOSE, OPEN
from tests.chaos.accounts.steps import STEPS


async def _watch(settings: Settings, seconds: float) -> dict[str, Any]:
    clock: Clock = make_clock(settings)
    await clock.refresh()
    request = AccountsWatchRequest(until_ms=clock.now_ms() + int(seconds * 1000))
    return (await watch.fn(request)).model_dump(mode="json")


async def _collect(settings: Settings) -> dict[str, Any]:
    return (await collect_shares.fn()).model_dump(mode="json")


@pytest.mark.skipif(bool(missing()), reason=missing())
async def test_a_run_watches_until_its_end_and_another_collects(tmp_path: Path) -> None:
    steps = STEPS | {"watch flow": _watch, "collect flow": _collect}
    async with accounts_bed(steps, None, tmp_path) as bed:
        done = await bed.run(OPEN, ("watch flow", {"seconds": 70.0}))
        assert done.code == 0, done
        assert done.answers[0]["state"] == "OPEN" and done.answers[1]["ticks"] >= 3
        bed.move(156.0)
        done = await bed.run(CLOSE, ("collect flow", {}), ("collect flow", {}))
        assert [one.get("paid") for one in done.answers] == [None, 1, 0], done
        store = Store.open(load_settings(bed.config).database.url, bed.world)  # type: ignore[arg-type]
        try:
            [row] = [one for one in store.heartbeats() if one.name == ACCOUNTS_WATCH]
            assert row.detail["faults"] == 0
            assert store.alerts(open_only=True) == []
        finally:
            store.close()
