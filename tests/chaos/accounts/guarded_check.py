"""What must hold of accounts on Hyperliquid after any fault and a recovery: the venue's own books compared with ours."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.settings.settings import load_settings
from state.accounts.many import HELD, HYPERLIQUID
from state.accounts.models import AccountTrade, DeploymentState, TradeState
from state.accounts.store import ACCOUNTS, ENDED
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.booking import DESK
from tasks.accounts.hyperliquid.booking import coin_of, signed_qty
from tests.chaos.accounts.guarded_bed import USDC, GuardedBed
from tests.chaos.findings import Findings


def store_of(bed: GuardedBed) -> Store:
    """The ledger, to be closed by who asked for it."""
    return Store.open(load_settings(bed.config).database.url, bed.world)  # type: ignore[arg-type]


def check_held(found: Findings, bed: GuardedBed, store: Store) -> None:
    """Nothing is under way; the books hold what the venue shows, and each trade has the one stop that the books name."""
    for intent in store.unfinished_intents(ACCOUNTS):
        found.add("unfinished", f"the {intent.kind} {intent.intent_id} is still {intent.state}")
    trades = store.accounts.trades(*HELD, venue=HYPERLIQUID)
    for trade in trades:
        if trade.state is not TradeState.OPEN:
            found.add("unfinished", f"{trade.name} is still {trade.state}")
    for person in (bed.user, bed.second):
        account = bed.venue.engine.read(person.address)
        there = {coin: one.szi for coin, one in account.positions.items() if one.szi}
        ours = {coin_of(one): signed_qty(one) for one in trades if one.account == person.address}
        if there != ours:
            found.add("unowned leg", f"{person.address} holds {there} there, {ours} in the books")
    may = {one.deployment_id for one in store.accounts.deployments(DeploymentState.ACTIVE, venue=HYPERLIQUID)}
    _check_stops(found, bed, [one for one in trades if one.deployment_id in may])


def _check_stops(found: Findings, bed: GuardedBed, trades: list[AccountTrade]) -> None:
    resting = [one for one in bed.user.resting() if one["isTrigger"] and one["cloid"]]
    by_desk = {(coin_of(one), one.stop): one for one in trades if one.stop_by == DESK}
    for one in resting:
        trade = by_desk.pop((one["coin"], Decimal(one["triggerPx"])), None)
        if trade is None and trades:
            found.add("double open", f"a stop of ours at {one['triggerPx']} rests that no trade names")
        elif trade is not None and Decimal(one["sz"]) < trade.asset_qty:
            found.add("naked", f"the stop of {trade.name} closes {one['sz']} of {trade.asset_qty}")
    for (_, stop), trade in by_desk.items():
        found.add("naked", f"{trade.name} has no stop of ours at {stop} at the venue")


def check_once(found: Findings, bed: GuardedBed, store: Store) -> None:
    """No order of ours opened or added to anything, and no close was executed by more orders than were asked for."""
    for person in (bed.user, bed.second):
        account = bed.venue.engine.read(person.address)
        ours = [row for row in account.fills if row.get("cloid")]
        for row in ours:
            if row["dir"] not in ("Close Long", "Close Short"):
                found.add("double open", f"an order of ours did {row['dir']} {row['sz']} {row['coin']}")
        stops = {one.cloid for one in account.order_records if one.tpsl}
        closes = {row["cloid"] for row in ours} - stops
        names = [
            one.name for one in store.accounts.trades(venue=HYPERLIQUID) if one.account == person.address
        ]
        asked = sum(one.kind == "close" for name in names for one in store.intents_of(ACCOUNTS, name))
        if len(closes) > asked:
            found.add("double open", f"{len(closes)} orders closed, {asked} closes were asked for")


def check_money(found: Findings, bed: GuardedBed, store: Store) -> None:
    """Once everything is closed: what is booked is what the cash changed by, to the digit, and each share is stated once."""
    accounts = store.accounts
    left = [one.name for one in accounts.trades(venue=HYPERLIQUID) if one.state not in ENDED]
    if left:
        found.add("unfinished", f"{left} are not over, though nothing is held")
        return
    changed = bed.user.cash() - Decimal(USDC)
    booked = sum((one.result_usdc for one in accounts.trades(venue=HYPERLIQUID)), Decimal(0))
    if booked != changed:
        found.add("lost record", f"the cash changed by {changed}, the books say {booked}")
    if resting := [one["oid"] for one in bed.user.resting() if one["cloid"]]:
        found.add("unowned leg", f"orders of ours rest though nothing is held: {resting}")
    charges = accounts.charges()
    if moved := [
        one.charge_id for one in charges if one.state not in (ChargeState.STATEMENT, ChargeState.WAIVED)
    ]:
        found.add("other", f"charges are to be pulled where nobody can: {moved}")
    if len({one.charge_id for one in charges}) != len(charges):
        found.add("lost record", "a share is stated twice")


def check_deployments(found: Findings, bed: GuardedBed, store: Store) -> None:
    """Nobody is guarded as ACTIVE who does not let us, and each user is deployed once."""
    rows = store.accounts.deployments(venue=HYPERLIQUID)
    if len({one.account for one in rows}) != len(rows):
        found.add("other", "a user is deployed twice")
    for person, agent in zip((bed.user, bed.second), bed.agents, strict=True):
        lets_us = agent.lower() in {one.lower() for one in bed.venue.engine.read(person.address).agents}
        for one in rows:
            is_wrong = (
                one.state is DeploymentState.ACTIVE if not lets_us else one.state is DeploymentState.REVOKED
            )
            if one.account == person.address and is_wrong:
                found.add("other", f"{one.deployment_id} is {one.state}; its agent is approved: {lets_us}")


def check_secrets(found: Findings, bed: GuardedBed) -> None:
    """No file of the scenario shows the secret, or a key that is made of it."""
    needles = [form for one in bed.secrets for form in (one, one.hex().encode(), one.hex().upper().encode())]
    for path in sorted(bed.folder.rglob("*")):
        if path.is_file() and path.parent.name != "keys":
            content = path.read_bytes()
            if any(needle in content for needle in needles):
                found.add("key shown", f"{path.name} contains key material")
