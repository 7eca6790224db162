"""How hedging stands and what is taken up of it, for the commands that serve every business. Values are JSON-able."""

from __future__ import annotations

from typing import Any

from evenkeel.errors import EvenkeelError, LostRace, words_of
from evenkeel.settings.settings import Settings
from flows.hedging.opened import open_hedging
from flows.hedging.rebalance import carry_on, open_rebalancing, sole
from state.hedging.models import RebalanceState
from state.hedging.store import HEDGING
from state.store import Store
from tasks.hedging.orders import sweep
from tasks.hedging.rebalancing.carrying import waiting_rebalances
from tasks.hedging.running.silence import HEARTBEAT


def hedging_status(store: Store) -> dict[str, Any]:
    """What is open by symbol, the orders under way, which symbols wait and why, and when the last pass was good."""
    hedging = store.hedging
    last = next((one for one in store.heartbeats() if one.name == HEARTBEAT), None)
    good_ms = None if last is None else (last.detail or {}).get("good_ms")
    return {
        "open_shares": {one.symbol: str(one.open_shares) for one in hedging.exposures() if one.open_shares},
        "unfinished_intents": len(store.unfinished_intents(HEDGING)),
        "blocked": {symbol: one.why for symbol, one in hedging.blocked().items()},
        "rebalances": {one.name: one.state.value for one in hedging.rebalances(open_only=True)},
        "rebalances_wait_for": waiting_rebalances(store),
        "seconds_since_pass": None
        if good_ms is None
        else round((store.clock.now_ms() - int(good_ms)) / 1000, 1),
    }


async def recover_hedging(settings: Settings) -> dict[str, Any]:
    """Ask the broker about every order that is under way. Where another process hedges, it does that itself. A fault is said
    and raises nothing: another business's recovery does not depend on it.
    """
    faults: dict[str, str] = {}
    left: int | None = None
    if settings.hedging.rebalance.enabled:
        faults = await _recover_rebalances(settings)
    try:
        async with open_hedging(settings) as at:
            try:
                async with at.desk.exclusive(at.lease, "the recovery of hedging") as fence:
                    found = await sweep(at, fence)
                faults |= {symbol: end for symbol, end in found.items() if isinstance(end, str)}
            except LostRace:
                faults["hedging"] = "another process hedges in this account, and takes up its orders itself"
            left = len(at.desk.store.unfinished_intents(HEDGING))
    except EvenkeelError as fault:
        faults["hedging"] = words_of(fault)
    return {"unfinished_intents": left, "faults": faults}


async def _recover_rebalances(settings: Settings) -> dict[str, str]:
    """Go on once with every rebalance that was approved. What it waits for is no fault; what stops it is."""
    try:
        async with open_rebalancing(settings) as rd, sole(rd) as fence:
            rows = await carry_on(rd, fence, goes_s=0)
    except EvenkeelError as fault:
        return {"rebalancing": words_of(fault)}
    return {one.name: one.why for one in rows if one.state is RebalanceState.STUCK}
