"""Who is killed between a settlement and its charge, or between the charge and its transfer, leaves one of each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.settings.settings import Settings, load_settings
from state.accounts import settling
from state.accounts.models import ChargeRow
from state.store import Store
from tasks.accounts import watcher
from tasks.accounts.desk import open_accounts_desk
from tasks.accounts.trading import close_trade
from tests.chaos.accounts.bed import MILLION, PLATFORM, AccountsBed, accounts_bed, missing
from tests.chaos.accounts.business import OPEN, RECOVERY, STOP
from tests.chaos.accounts.invariants import check
from tests.chaos.accounts.steps import STEPS
from tests.chaos.process import StepFunction
from venues.evm.rpc import EvmRpc


async def _ask_to_close(settings: Settings) -> dict[str, Any]:
    """The close is on the chain, and nobody waits for the keeper."""
    async with open_accounts_desk(settings) as desk:
        await desk.second.refresh()
        await close_trade(desk.desk, "t1", Decimal(156), 100)
        return {}


def dying(where: Any, name: str, *, after: bool = False) -> StepFunction:
    """A watch that is killed as soon as it calls this, or once the call has come back."""

    async def step(settings: Settings) -> dict[str, Any]:
        real: Callable[..., Any] = getattr(where, name)

        def die(*given: Any, **named: Any) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

        async def call_and_die(*given: Any, **named: Any) -> Any:
            await real(*given, **named)
            die()

        setattr(where, name, call_and_die if after else die)
        return await STEPS["watch"](settings)

    return step


DEATHS = {
    "between the settlement and the charge": dying(settling, "_charge"),
    "between the charge and the transfer": dying(watcher, "pull_charges"),
    "before the transfer is on the wire": dying(EvmRpc, "put"),
    "after the transfer is on the wire": dying(EvmRpc, "put", after=True),
}


def booked(bed: AccountsBed) -> tuple[int, list[ChargeRow]]:
    """How many closes are booked, and the charges. The ledger is closed again before anybody is forked from here."""
    store = Store.open(load_settings(bed.config).database.url, bed.world)  # type: ignore[arg-type]
    try:
        closed = [one for one in store.accounts.settlements() if one.kind == "closed"]
        return len(closed), store.accounts.charges()
    finally:
        store.close()


@pytest.mark.skipif(bool(missing()), reason=missing())
async def test_who_is_killed_at_every_point_leaves_one_charge_and_one_transfer(tmp_path: Path) -> None:
    async with accounts_bed(STEPS | DEATHS | {"ask to close": _ask_to_close}, None, tmp_path) as bed:
        done = await bed.run(OPEN, STOP)
        assert done.code == 0 and done.answers[0]["state"] == "OPEN", done
        bed.move(156.0)
        await bed.run(("ask to close", {}))
        await bed.later(30)
        seen = []
        for name in DEATHS:
            done = await bed.run((name, {}))
            assert done.killed, (name, done)
            closes, charges = booked(bed)
            seen.append((closes, [one.state for one in charges]))
            await bed.later(40)
        assert seen == [(0, []), (1, ["DUE"]), (1, ["DUE"]), (1, ["DUE"])], (
            "a settlement comes with its charge"
        )
        done = await bed.run(*RECOVERY)
        assert done.code == 0, done
        _, [charge] = booked(bed)
        assert charge.state == "COLLECTED"
        assert bed.usdc(PLATFORM) == int(charge.usdc * MILLION) > 0
        assert not (found := check(bed)).problems, found
