"""A run by schedule that fails says so once, and what it said is over with the next that succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.hedging import rebalance_actions
from evenkeel.errors import EvenkeelError
from flows.hedging.backfill import BackfillRequest, hedging_backfill
from flows.hedging.failing import ACCOUNT, COMPARE, READ, REBALANCE, RUN_FAILED
from flows.hedging.pnl import PnlRequest, hedging_pnl
from flows.hedging.rebalance import rebalance_scheduled, sole
from flows.hedging.reconcile import HedgingReconcileRequest, hedging_reconcile
from tests.databases import database_fixtures
from tests.hedging_rig import host_settings
from tests.hedging_settings import environment
from tests.integration.hedging.test_rebalancing_commands import settings_of
from tests.rebalancing_rig import RebalanceRig, keys_of_broker, rebalancing_rig

databases, url, _store = database_fixtures("sqlite")


@asynccontextmanager
async def by_schedule(url: str, folder: Path) -> AsyncIterator[RebalanceRig]:
    """The rig, with the settings of its host in a file: automatic rebalances, of which none is needed."""
    async with rebalancing_rig(url) as rig:
        rig.rebalance |= {"vaults": {"MSFT": 3}, "auto": True}
        rig.fill_vault("MSFT", "600")
        await rig.read_chain()
        rig.settings()
        async with host_settings(rig.hedging, url, folder) as path:
            with environment({"EVENKEEL_CONFIG": str(path)}), keys_of_broker(rig.hedging.keys["broker"]):
                yield rig


def said(rig: RebalanceRig) -> list[tuple[str, int]]:
    found = [one for one in rig.hedging.store.alerts(open_only=True) if one.kind == RUN_FAILED]
    return [(one.subject, one.times) for one in found]


async def apart(run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """As a process of its own: the twins are served in this loop."""
    return await asyncio.to_thread(lambda: asyncio.run(run()))


RUNS: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
    REBALANCE: rebalance_scheduled.fn,
    READ: lambda: hedging_backfill.fn(BackfillRequest()),
    COMPARE: lambda: hedging_reconcile.fn(HedgingReconcileRequest()),
}


@pytest.mark.parametrize("what", RUNS)
async def test_a_run_that_fails_is_said_once_until_one_succeeds(url: str, tmp_path: Path, what: str) -> None:
    async with by_schedule(url, tmp_path) as rig:
        rig.hedging.fault("raindex", "http_500", "eth_chainId", times=-1)
        for times in (1, 2):
            with pytest.raises(EvenkeelError):
                await apart(RUNS[what])
            assert said(rig) == [(what, times)]
        rig.hedging.plan.clear()
        await apart(RUNS[what])
        assert not said(rig)
        await apart(RUNS[what])
        assert len([one for one in rig.hedging.store.alerts() if one.kind == RUN_FAILED]) == 1


async def test_a_rebalance_that_fails_on_its_way_is_said_too(url: str, tmp_path: Path) -> None:
    async with by_schedule(url, tmp_path) as rig:
        with environment({"EVENKEEL_VAULTS_KEY": "0x" + "11" * 32}), pytest.raises(EvenkeelError):
            await apart(rebalance_scheduled.fn)
        assert said(rig) == [(REBALANCE, 1)]
        await apart(rebalance_scheduled.fn)
        assert not said(rig)


async def test_accounting_that_fails_is_said(url: str, tmp_path: Path) -> None:
    async with by_schedule(url, tmp_path) as rig:
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(OSError):
            await apart(lambda: hedging_pnl.fn(PnlRequest(out_dir=str(tmp_path / "taken"))))
        assert said(rig) == [(ACCOUNT, 1)]
        await apart(lambda: hedging_pnl.fn(PnlRequest()))
        assert not said(rig)


async def test_that_another_process_does_it_is_no_failure(url: str, tmp_path: Path) -> None:
    async with by_schedule(url, tmp_path) as rig:
        async with rig.desk() as other, sole(other):
            assert "goes on by itself" in (await apart(rebalance_scheduled.fn)).holds["all"]
        assert not said(rig)


async def test_a_timer_that_calls_the_command_is_a_schedule_too(url: str, tmp_path: Path) -> None:
    async with by_schedule(url, tmp_path) as rig:
        settings = settings_of(rig, url)
        rig.hedging.fault("raindex", "http_500", "eth_chainId", times=-1)
        with pytest.raises(EvenkeelError):
            await apart(lambda: rebalance_actions.propose(settings))
        assert [what for what, _ in said(rig)] == [REBALANCE]
        rig.hedging.plan.clear()
        await apart(lambda: rebalance_actions.propose(settings))
        assert not said(rig)
