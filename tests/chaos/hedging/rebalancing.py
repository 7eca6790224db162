"""Rebalances crossed with faults: each outside call of each way, with each fault, and a death before and after each commit.

Part of `make chaos-hedging`; the tests play a sample.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

from evenkeel.errors import EvenkeelError, OperatorError
from evenkeel.types import IntentState
from state.hedging.models import RebalanceState
from tests.chaos.hedging.crossing import LEDGER, TRANSPORT, Crossing, new_ledger
from tests.chaos.hedging.near import BREAKS, near
from tests.interruptions import Killed, die, hooked
from tests.rebalancing_rig import BRIDGE_FEE, RebalanceRig, rebalancing_rig

D = Decimal
S = RebalanceState
BROKER = "alpaca-broker"
DIES = ("dies before", "dies after")
OF_THE_CORE = ("plan_intent", "record_ready", "mark_submitted", "record_working", "confirm", "attempt_dead")
OF_REBALANCES = ("note_rebalance", "move_rebalance")
MOST_OF_A_CALL = 4
"""Occurrences of one call that meet faults: the first, the last and those between."""
Setup = Callable[[RebalanceRig], Awaitable[str]]


async def _shares_out(rig: RebalanceRig) -> str:
    rig.wrap("AAPL")
    rig.fill_vault("AAPL", "100")
    return "AAPL"


async def _shares_back(rig: RebalanceRig) -> str:
    rig.wrap("TSLA")
    rig.fill_vault("TSLA", "4000")
    return "TSLA"


async def _usdc_out(rig: RebalanceRig) -> str:
    rig.fill_vault("USDC", "100000")
    async with rig.desk() as rd:
        await rd.transfers.allow(rd.wallet)
    rig.hedging.later(10)
    return "USDC"


async def _usdc_back(rig: RebalanceRig) -> str:
    rig.fill_vault("USDC", "9000000")
    return "USDC"


async def _by_journal(rig: RebalanceRig) -> str:
    rig.by_journal()
    rig.fill_vault("NVDA", "100")
    return "NVDA"


STORIES: dict[str, Setup] = {
    "shares to the chain": _shares_out,
    "shares to the broker": _shares_back,
    "USDC to the chain": _usdc_out,
    "USDC to the broker": _usdc_back,
    "shares by journal": _by_journal,
}


async def begun(rig: RebalanceRig, story: str) -> str:
    """Set up a story up to its approval; return the rebalance's name."""
    rig.rebalance["stuck_s"] = 60
    scope = await STORIES[story](rig)
    [row] = [one for one in (await rig.propose()).rebalances if one.scope == scope]
    rig.approve(row.name)
    return row.name


async def _to_the_end(rig: RebalanceRig, name: str) -> None:
    """Go on, process after process, until it is over. A person crosses the bridge, says that what the broker does not show
    never left, and resumes what is stuck.
    """
    for _ in range(80):
        try:
            row = await rig.go(name)
            if row.state.is_over:
                return
            if row.done.get("for_person") and row.state is S.RUNNING:
                await rig.cross(name)
            elif row.state is S.STUCK:
                await rig.resume(name)
            elif _is_in_doubt(rig, name):
                await rig.unsent(name)
        except OperatorError:
            pass  # too early, or not proved yet
        except (EvenkeelError, Killed):
            rig.hedging.later(5)
        rig.hedging.later(10)
    raise AssertionError(f"{name} did not end: {rig.row(name)} {rig.hedging.store.alerts(open_only=True)}")


def _is_in_doubt(rig: RebalanceRig, name: str) -> bool:
    doubts = rig.hedging.store.unfinished_intents("hedging", name)
    kinds = {"pay-out", "journal"}
    on_wire = (IntentState.SUBMITTING, IntentState.SUBMITTED)
    return any(one.kind in kinds and one.state in on_wire for one in doubts)


async def play(url: str, crossing: Crossing) -> None:
    """Play it, let later processes take up what is left, then hold every place against what was there before."""
    async with rebalancing_rig(url) as rig:
        with near(rig.hedging.plan) as asking, asking.sockets(crossing.fault in BREAKS):
            name = await begun(rig, crossing.story)
            before = rig.everything(name)
            rig.hedging.timeout_s = 1.0 if crossing.fault.startswith("drop") else 10.0
            venue, call = crossing.where
            if venue != LEDGER:
                rig.hedging.fault(venue, crossing.fault, re.escape(call), after=crossing.nth - 1)
                await _to_the_end(rig, name)
            else:
                target = rig.hedging.store if call in OF_THE_CORE else rig.hedging.store.hedging
                moment = {crossing.fault.removeprefix("dies "): die}
                with hooked(target, call, skip=crossing.nth - 1, **moment):  # type: ignore[arg-type]
                    await _to_the_end(rig, name)
            check(rig, name, before)


def check(rig: RebalanceRig, name: str, before: dict[str, Decimal]) -> None:
    """Nothing was moved twice, and nothing is on its way: what one side lost the other has, less what the bridge took."""
    row, after = rig.row(name), rig.everything(name)
    change = {place: after[place] - before[place] for place in before}
    if row.state is S.REFUSED:
        assert not any(change.values()), (row, change)
        return
    assert row.state is S.DONE and not rig.hedging.store.unfinished_intents("hedging", name), row
    way = 1 if row.direction == "to-chain" else -1
    fee = BRIDGE_FEE if row.scope == "USDC" else D(0)
    at_chain, at_broker = (way * row.amount, -way * row.amount)
    if way > 0:
        at_chain -= fee
    else:
        at_broker -= fee
    assert change == {"chain": at_chain, "broker": at_broker, "wallet": D(0), "between": D(0)}, (change, row)
    booked = rig.hedging.store.hedging.moved_at_broker()
    what = "USD" if row.scope == "USDC" else row.scope
    assert booked[what] == rig.changed_at_broker(row.scope), (booked, row)


async def crossings(home: Path) -> list[Crossing]:
    """Every one, by what the stories call when nothing goes wrong."""
    found: list[Crossing] = []
    for place, story in enumerate(STORIES):
        folder = home / f"rebalance-{place}"
        folder.mkdir(parents=True)
        async with rebalancing_rig(new_ledger(folder)) as rig:
            with near(rig.hedging.plan):
                name = await begun(rig, story)
                first = len(rig.hedging.plan.calls)
                await _to_the_end(rig, name)
            calls = Counter((row["venue"], row["call"]) for row in list(rig.hedging.plan.calls)[first:])
        found += [
            Crossing(story, BROKER, where, nth, fault)
            for where, count in sorted(calls.items())
            for nth in occurrences(count)
            for fault in TRANSPORT
        ]
        found += [
            Crossing(story, BROKER, (LEDGER, commit), nth, fault)
            for commit in (*OF_THE_CORE, *OF_REBALANCES)
            for nth in (1, 2, 3)
            for fault in DIES
        ]
    return found


def occurrences(count: int) -> list[int]:
    """Which of so many calls of a name meet faults."""
    if count <= MOST_OF_A_CALL:
        return list(range(1, count + 1))
    return sorted({1, 2, count // 2, count})
