"""What is out of its band, as proposals: one for each scope that has none open. `auto` approves within the cap of a day."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenkeel.errors import UNREAD, LostRace, NotUnderstood
from state.hedging.models import Rebalance, RebalanceState
from state.models import Fence
from state.store import Store
from state.watch_models import Severity
from strategy.hedging.decision import ROUGH, ZERO, Hold
from strategy.hedging.rebalancing import (
    USDC,
    Aim,
    Direction,
    Kind,
    Prices,
    Proposal,
    Sides,
    Way,
    may_begin,
    proposed,
)
from tasks.hedging.deciding import paused_by
from tasks.hedging.rebalancing.desk import RebalanceDesk, ratio_of
from venues.alpaca.transfers import USDC_PAIR

PROPOSED = "rebalance proposed"
"""The alert of a proposal that a person has to approve or to refuse."""
AUTO = "auto"
BY_ITSELF = "hedging:rebalances"
"""The heartbeat of what `auto` does by its schedule."""
DAY_MS = 86_400_000


@dataclass
class Proposed:
    """What was proposed, and by scope why nothing was."""

    rebalances: list[Rebalance] = field(default_factory=list)
    holds: dict[str, str] = field(default_factory=dict)
    lapsed: list[str] = field(default_factory=list)


async def propose(rd: RebalanceDesk, fence: Fence | None) -> Proposed:
    """Read both sides of every scope that has no open rebalance, and write down what is out of its band. What cannot be read
    is a reason to propose nothing. Raises nothing for what a venue answers.
    """
    found = Proposed(lapsed=lapse(rd, fence))
    hedging = rd.at.desk.store.hedging
    busy = {one.scope: one for one in hedging.rebalances(open_only=True)}
    if (pause := paused_by(rd.at)) is not None:
        found.holds = {scope: f"paused ({pause.scope}): {pause.reason}" for scope in rd.settings.vaults}
        return found
    for scope in rd.settings.vaults:
        if scope in busy:
            found.holds[scope] = f"{busy[scope].name} is {busy[scope].state.lower()}"
            continue
        try:
            answer = await _of_scope(rd, scope)
        except UNREAD as fault:
            answer = Hold(why=str(fault), is_short_of=True)
        if isinstance(answer, Hold):
            found.holds[scope] = answer.why
            continue
        row = hedging.propose(_row(rd, *answer), fence)
        if row is None:
            found.holds[scope] = "another process has proposed it"
            continue
        found.rebalances.append(_decided(rd, row, fence))
    return found


def lapse(rd: RebalanceDesk, fence: Fence | None) -> list[str]:
    """End proposals that nobody decided on in time: their figures are old. Return their names."""
    store, now = rd.at.desk.store, rd.at.desk.clock.now_ms()
    found = []
    for row in store.hedging.rebalances(open_only=True):
        if row.state is not RebalanceState.PROPOSED or now - row.created_ms < rd.settings.lapse_s * 1000:
            continue
        with suppress(LostRace):
            store.hedging.move_rebalance(
                row.name,
                RebalanceState.LAPSED,
                why=f"nobody decided on it within {rd.settings.lapse_s} s",
                was=RebalanceState.PROPOSED,
                fence=fence,
            )
            say_decided(store, row.name)
            found.append(row.name)
    return found


def say_decided(store: Store, name: str) -> None:
    """Close the alert of a proposal on which somebody has decided."""
    if any(one.kind == PROPOSED for one in store.open_alerts_of(name)):
        store.ack_alert(PROPOSED, name)


def _decided(rd: RebalanceDesk, row: Rebalance, fence: Fence | None) -> Rebalance:
    """Approve it where the settings let it be, else alert a person."""
    store, now = rd.at.desk.store, rd.at.desk.clock.now_ms()
    why: str | None = "rebalance.auto is false"
    if rd.settings.auto:
        so_far = store.hedging.approved_usd(AUTO, now - DAY_MS)
        why = may_begin(row.usd, so_far, rd.settings.auto_usd_a_day)
    if why is None:
        return store.hedging.move_rebalance(
            row.name, RebalanceState.APPROVED, by=AUTO, was=RebalanceState.PROPOSED, fence=fence
        )
    store.alert(
        PROPOSED,
        Severity.WARNING,
        f"{row.name}: {row.amount:f} {row.scope} {row.direction} ({row.usd:.2f} USD), {row.why}; {why}: approve or refuse it",
        subject=row.name,
    )
    return row


def _row(rd: RebalanceDesk, way: Way, prices: Prices, wanted: Proposal) -> Rebalance:
    now = rd.at.desk.clock.now_ms()
    plan: dict[str, Any] = {
        "steps": [str(kind) for kind in wanted.steps],
        "costs": [one.model_dump(mode="json") for one in wanted.costs],
        "transactions": wanted.transactions,
        "way": way.model_dump(mode="json"),
        "prices": prices.model_dump(mode="json"),
        "wallet": rd.wallet,
    }
    return Rebalance(
        name=rd.at.desk.store.hedging.next_rebalance(way.scope),
        scope=way.scope,
        direction=str(wanted.direction),
        amount=wanted.amount,
        state=RebalanceState.PROPOSED,
        plan=plan,
        why=wanted.why,
        created_ms=now,
        updated_ms=now,
        usd=wanted.usd,
    )


async def _of_scope(rd: RebalanceDesk, scope: str) -> tuple[Way, Prices, Proposal] | Hold:
    """Raises UNREAD."""
    usdc, settings = scope == USDC, rd.settings
    if usdc:
        way = Way(
            scope=scope,
            decimals=rd.decimals(scope),
            by_journal=rd.is_by_journal,
            least_units=settings.least_withdrawal_usdc,
        )
        prices = Prices(
            usd=Decimal(1),
            conversion_bps=settings.conversion_bps,
            bridge_bps=settings.bridge_bps,
            withdrawal_usd=settings.withdrawal_usd,
        )
    else:
        price = await rd.at.broker.price(scope) or rd.at.desk.store.hedging.exposure(scope).price_usd
        if price is None:
            return Hold(why="no price is known", is_short_of=True)
        way = Way(
            scope=scope,
            decimals=rd.decimals(scope),
            is_wrapped=scope in settings.assets,
            by_journal=rd.is_by_journal,
            most_units=settings.most_shares[scope],
            ratio=await ratio_of(rd.at, scope),
        )
        prices = Prices(usd=price)
    band = settings.usdc if usdc else settings.equity
    aim = Aim(
        target=band.target,
        deviation=band.deviation,
        least_usd=settings.least_usd,
        most_usd=settings.most_usd,
    )
    answer = proposed(way, await _sides(rd, scope, way), aim, prices)
    if isinstance(answer, Hold):
        return answer
    if answer.direction is Direction.TO_CHAIN and Kind.PAY_OUT in answer.steps:
        listed = {one.address.lower(): one.status for one in await rd.transfers.whitelist()}
        if listed.get(rd.wallet) != "APPROVED":
            status = listed.get(rd.wallet, "not on it")
            return Hold(
                why=f"the broker pays out to addresses of its whitelist only, and {rd.wallet} is {status}: "
                "`evenkeel hedging rebalance allow`",
                is_short_of=True,
            )
    return way, prices, answer


async def _sides(rd: RebalanceDesk, scope: str, way: Way) -> Sides:
    """Return what both sides hold: the vault at the last block that was read, the broker now. Raises UNREAD."""
    at, hedging = rd.at, rd.at.desk.store.hedging
    cursor = hedging.cursor(at.chain, at.contract)
    if cursor is None:
        raise NotUnderstood(at.chain, "nothing of the chain was read yet: `evenkeel hedging backfill`")
    ended_ms = max((one.updated_ms for one in hedging.rebalances() if _has_moved(one, scope)), default=0)
    if cursor.at_ms < ended_ms:
        raise NotUnderstood(
            at.chain,
            f"{scope}'s last rebalance ended after the last block that was read: what it moved is not seen yet",
        )
    vault = await at.reader.vault_balance(rd.token(scope), rd.settings.vaults[scope], cursor.next_block - 1)
    if vault < 0:
        raise NotUnderstood(at.chain, f"the vault of {scope} is said to hold {vault}")
    chain = ROUGH.multiply(vault, way.ratio)
    holdings = await at.broker.holdings()
    orders = hedging.open_orders()
    if scope != USDC:
        held = holdings[scope].qty if scope in holdings else ZERO
        sells = [
            Decimal(one.order["qty"]) for one in orders if (one.subject, one.order["side"]) == (scope, "sell")
        ]
        promised = max(
            hedging.exposure(scope).open_shares, *sells, ZERO
        )  # an open order answers what is open
        return Sides(chain=chain, broker=max(held, ZERO), free=max(held - promised, ZERO))
    cash = await at.broker.cash()
    kept = holdings[USDC_PAIR].qty if USDC_PAIR in holdings else ZERO
    return Sides(
        chain=chain,
        broker=max(cash, ZERO) + max(kept, ZERO),
        free=max(ROUGH.subtract(cash, _needed_usd(rd)), ZERO),
    )


def _has_moved(row: Rebalance, scope: str) -> bool:
    return row.scope == scope and bool(row.done.get("steps"))


def _needed_usd(rd: RebalanceDesk) -> Decimal:
    """Return the dollars that open buys and exposures that will be bought may cost."""
    hedging, found = rd.at.desk.store.hedging, ZERO
    buys = {
        one.subject: Decimal(one.order["qty"]) for one in hedging.open_orders() if one.order["side"] == "buy"
    }
    for exposure in hedging.exposures():
        shares = max(buys.get(exposure.symbol, ZERO), -exposure.open_shares)
        if shares > 0 and exposure.price_usd is not None:
            found += ROUGH.multiply(shares, exposure.price_usd) * (1 + rd.at.settings.most_slippage)
    return found
