"""Gather a position's books from the ledger, and what the venues say of the same life, for attribution and report."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from analytics.agreement import Difference, compare_fills
from analytics.carry.agreement import compare_funding
from analytics.carry.attribution import Attribution, VenueChange, attribute
from analytics.carry.equity import Naked, equity_curve, max_drawdown, realised_funding_apr
from analytics.carry.legs import GasCost, LongEvent, LongMark, ShortFill
from analytics.carry.life import LifeEvent, LifeSnapshot
from analytics.carry.report import Report, trades_of
from evenkeel.errors import OperatorError
from evenkeel.legs import CARRY, FundingPayment, IntentKind, LegReceipt, LegSide, LendingChange
from evenkeel.types import Fill, IntentState, VenueName
from state.carry.liquidation_models import Liquidation
from state.carry.models import Position, PositionSnapshot
from state.models import Intent
from tasks.carry.books.external_short import SEIZED_MARGIN
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import Mark
from tasks.step import step

LATE_STAMP_MS = 2 * 3_600_000
"""A settlement may be stamped minutes after its hour: whose it is goes by the hour."""

KINDS = {IntentKind.OPEN: "open", IntentKind.CLOSE: "close", IntentKind.RESIZE: "resize"}


def confirmed(desk: CarryDesk, position_id: str, leg: LegSide) -> list[tuple[Intent, LegReceipt]]:
    """Everything that happened on a leg, in order of time."""
    done = [
        (intent, LegReceipt.model_validate(intent.result))
        for intent in desk.store.intents_of(CARRY, position_id)
        if intent.part == leg and intent.state is IntentState.CONFIRMED
    ]
    return sorted(done, key=lambda one: one[1].settled_ms)


def long_events(desk: CarryDesk, position_id: str) -> list[LongEvent]:
    """The landed transactions of the long leg and what its lender seized, each with the market at its moment."""
    events = [_seizure(row) for row in desk.store.carry.liquidations(position_id)]
    for intent, receipt in confirmed(desk, position_id, LegSide.LONG):
        assert receipt.lending is not None
        mark = Mark.model_validate(receipt.detail["mark"])
        events.append(
            LongEvent(
                ref=receipt.ref,
                kind=KINDS[IntentKind(intent.kind)],  # type: ignore[arg-type]
                at_ms=receipt.settled_ms,
                change=receipt.lending,
                sol_price_usd=mark.sol_price_usd,
                token_price_usd=mark.token_price_usd,
                redemption_rate=mark.redemption_rate,
            )
        )
    return sorted(events, key=lambda event: event.at_ms)


def _seizure(row: Liquidation) -> LongEvent:
    return LongEvent(
        ref=row.ref,
        kind="liquidated",
        at_ms=row.at_ms,
        change=LendingChange(
            tokens_before=row.tokens_before,
            tokens_after=row.tokens_after,
            debt_before_usd=row.debt_before_usd,
            debt_after_usd=row.debt_after_usd,
            swap_token_qty=row.seized_tokens,
            swap_usdc_qty=row.repaid_usd,
            wallet_usdc_delta=Decimal(0),
            protocol_fee_usd=Decimal(0),
            gas_lamports=0,
        ),
        sol_price_usd=row.sol_price_usd,
        token_price_usd=row.token_price_usd,
        redemption_rate=row.redemption_rate,
    )


def margin_seized_usd(desk: CarryDesk, position_id: str) -> Decimal:
    """What a backstop liquidation took of the margin beyond its fills."""
    fees = [fee.amount_usd for fee in desk.store.fees(CARRY, position_id) if fee.kind == SEIZED_MARGIN]
    return sum((usd for usd in fees if usd is not None), Decimal(0))


def short_fills(desk: CarryDesk, position_id: str) -> list[ShortFill]:
    """Every fill of the perpetual that belongs to the position, each with the mid on which its order was decided.

    A fill without an order of ours (liquidation, auto-deleveraging) was decided by nobody: its own price stands in.
    """
    decided: dict[str, tuple[Decimal, Decimal]] = {}
    for _, receipt in confirmed(desk, position_id, LegSide.SHORT):
        index = Mark.model_validate(receipt.detail["mark"]).sol_price_usd
        decided |= {fill.fill_id: (Decimal(receipt.detail["reference_px"]), index) for fill in receipt.fills}
    found = []
    for row in desk.store.fills_of(CARRY, position_id):
        if row.venue == VenueName.HYPERLIQUID:
            reference, index = decided.get(row.fill_id, (row.price_usd, row.price_usd))
            found.append(ShortFill(fill=row.fill, reference_price_usd=reference, index_price_usd=index))
    return found


async def other_gas(desk: CarryDesk, position: Position) -> list[GasCost]:
    """Lamports beside the booked gas and tips: transactions that landed and failed, rent paid or returned.

    What each of our transactions took from the wallet is read from the chain; what the books explain is left out.
    """
    costs: list[GasCost] = []
    for intent in desk.store.intents_of(CARRY, position.position_id):
        if intent.part != LegSide.LONG:
            continue
        taken, at_ms = 0, intent.created_ms
        for attempt in desk.store.attempts_of(intent.intent_id):
            for signature in attempt.key.get("signatures", []) if attempt.sent_ms is not None else []:
                landed = await desk.long.rpc.get_transaction(signature)
                if landed is not None:
                    taken += int(landed["meta"]["preBalances"][0]) - int(landed["meta"]["postBalances"][0])
        price = position.ref_long_price_usd or Decimal(1)
        if intent.state is IntentState.CONFIRMED:
            receipt = LegReceipt.model_validate(intent.result)
            assert receipt.lending is not None
            taken -= receipt.lending.gas_lamports + receipt.lending.tip_lamports
            at_ms, price = receipt.settled_ms, Mark.model_validate(receipt.detail["mark"]).sol_price_usd
        if taken:
            ref = f"beside:{intent.intent_id}"
            costs.append(GasCost(ref=ref, at_ms=at_ms, gas_lamports=taken, sol_price_usd=price))
    return costs


def life_snapshots(snapshots: list[PositionSnapshot]) -> list[LifeSnapshot]:
    """What the picture of a position's life shows, from what the monitor saw."""
    shown = []
    for one in snapshots:
        rate = Decimal(one.detail.get("redemption_rate", "1"))
        tokens = one.detail.get("tokens")
        long_sol = Decimal(tokens) * rate if tokens is not None else None
        short_sol = None if long_sol is None or one.delta_sol is None else one.delta_sol - long_sol
        shown.append(
            LifeSnapshot(
                at_ms=one.at_ms,
                funding_rate_hourly=_float(one.funding_rate_hourly),
                long_distance=_float(one.long_liquidation_distance),
                short_distance=_float(one.short_liquidation_distance),
                equity_usd=_float(one.equity_usd),
                long_exposure_sol=_float(long_sol),
                short_exposure_sol=_float(short_sol),
            )
        )
    return shown


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def life_events(desk: CarryDesk, position: Position) -> list[LifeEvent]:
    """Entry, rebalances, lost answers and exit, as they are marked in the picture."""
    events = []
    if position.opened_ms:
        events.append(LifeEvent(at_ms=position.opened_ms, kind="enter", label="enter"))
    for one in position.facts.get("rebalances", []):
        events.append(LifeEvent(at_ms=int(one["at_ms"]), kind="rebalance", label="rebalance"))
    for at_ms in lost_answers(desk, position.position_id):
        events.append(LifeEvent(at_ms=at_ms, kind="lost answer", label="answer lost", tone="trouble"))
    if position.closed_ms:
        events.append(LifeEvent(at_ms=position.closed_ms, kind="exit", label="exit"))
    return sorted(events, key=lambda event: event.at_ms)


def lost_answers(desk: CarryDesk, position_id: str) -> list[int]:
    """When an order turned out to have happened although its answer was lost: a plain retry would have doubled it."""
    from tasks.intents import FOUND_AFTER_UNKNOWN

    return [
        attempt.sent_ms or attempt.signed_ms
        for intent in desk.store.intents_of(CARRY, position_id)
        for attempt in desk.store.attempts_of(intent.intent_id)
        if attempt.evidence == FOUND_AFTER_UNKNOWN
    ]


def naked(desk: CarryDesk, position_id: str) -> Naked:
    """How long one leg stood without the other, from the audit log of both legs."""
    prefix = f"{position_id}/"
    open_legs: set[str] = set()
    total = longest = 0.0
    since_ms = 0
    for event in desk.store.transitions("leg"):
        if not event.entity_id.startswith(prefix):
            continue
        if len(open_legs) == 1:
            lasted = (event.at_ms - since_ms) / 1000
            total, longest = total + lasted, max(longest, lasted)
        since_ms = event.at_ms
        if event.to_state == "OPEN":
            open_legs.add(event.entity_id)
        else:
            open_legs.discard(event.entity_id)
    return Naked(total_seconds=total, longest_seconds=longest)


@step("attribute the result", tags=("report",))
async def attribute_position(
    desk: CarryDesk, position: Position
) -> tuple[Attribution, list[LongEvent], list[ShortFill]]:
    """Every item from the books, held against balances read from the venues and never from the books."""
    longs, shorts = long_events(desk, position.position_id), short_fills(desk, position.position_id)
    funding = desk.store.carry.funding_payments(position_id=position.position_id)
    before = position.facts["before"]
    after: dict[str, Any] | None = position.facts.get("after")
    marks = _marks(desk, position)
    mark = await desk.books.read_mark(position.asset, position.underlying)
    equity_after = Decimal(0)
    if after is None:
        wallet, account = await desk.long.wallet_balances(), await desk.short.account()
        after = {
            "hyperliquid_usd": account.account_value_usd,
            "wallet_usdc": wallet.usdc,
            "wallet_lamports": wallet.sol_lamports,
            "at_ms": desk.clock.now_ms(),
        }
        leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
        views = await desk.long.legs(known_pdas=[(int(leg.protocol or 0), leg.ref)]) if leg else []
        view = next((one for one in views if leg and one.ref == leg.ref), None)
        if view is not None:
            marks.append(LongMark(tokens=view.qty, debt_usd=view.debt_usd, **mark.model_dump()))
            equity_after = view.qty * mark.token_price_usd - view.debt_usd
    moved = await desk.short.non_funding_ledger(int(before["at_ms"]), int(after["at_ms"]))
    found = attribute(
        long_events=longs,
        short_fills=shorts,
        funding=funding,
        venue=VenueChange(
            hyperliquid_before_usd=Decimal(before["hyperliquid_usd"]),
            hyperliquid_after_usd=Decimal(str(after["hyperliquid_usd"])),
            hyperliquid_deposits_usd=sum((_flow(row.kind, row.usdc, row.delta) for row in moved), Decimal(0)),
            wallet_usdc_before=Decimal(before["wallet_usdc"]),
            wallet_usdc_after=Decimal(str(after["wallet_usdc"])),
            long_equity_after_usd=equity_after,
            sol_lamports_spent=int(before["wallet_lamports"]) - int(after["wallet_lamports"]),
            sol_price_after_usd=mark.sol_price_usd,
        ),
        capital_usd=Decimal(position.facts["capital_usd"]),
        opened_ms=position.opened_ms or position.created_ms,
        ended_ms=position.closed_ms or desk.clock.now_ms(),
        long_marks=marks,
        short_mark_price_usd=(await desk.short.market.context(position.underlying)).mark_px,
        other_gas=await other_gas(desk, position),
        margin_seized_usd=margin_seized_usd(desk, position.position_id),
    )
    return found, longs, shorts


def _marks(desk: CarryDesk, position: Position) -> list[LongMark]:
    """One tick an hour is enough to split interest from price."""
    marks, last = [], 0
    for one in desk.store.carry.snapshots(position.position_id):
        if "tokens" not in one.detail or one.short_price_usd is None or one.at_ms - last < 3_600_000:
            continue
        last = one.at_ms
        rate = Decimal(one.detail["redemption_rate"])
        price = Decimal(one.detail["token_price_usd"])
        marks.append(
            LongMark(
                at_ms=one.at_ms,
                tokens=Decimal(one.detail["tokens"]),
                debt_usd=Decimal(one.detail["debt_usd"]),
                sol_price_usd=one.long_price_usd or price / rate,
                token_price_usd=price,
                redemption_rate=rate,
            )
        )
    return marks


def _flow(kind: str, usdc: Decimal | None, delta: dict[str, Any]) -> Decimal:
    """Money that came to the account from outside (below zero: that left it)."""
    if usdc is None or kind == "liquidation":  # a loss of the position, not a movement of money
        return Decimal(0)
    if kind == "deposit":
        return usdc
    if kind == "withdraw":
        return -usdc - Decimal(str(delta.get("fee", 0)))
    if kind == "accountClassTransfer":
        return usdc if delta.get("toPerp") else -usdc
    raise OperatorError(f"the Hyperliquid ledger has a movement of kind {kind!r} that the books cannot place")


@step("compare ledgers row by row", tags=("report",), retries=2)
async def compare_ledgers(desk: CarryDesk, position: Position) -> tuple[list[Difference], int]:
    """Funding payments and perpetual fills of the position's life against the venue's own rows."""
    start, end = position.created_ms, position.closed_ms or desk.clock.now_ms()
    late_ms = end + LATE_STAMP_MS
    booked_funding = desk.store.carry.funding_payments(position_id=position.position_id)
    booked_fills = [
        row.fill
        for row in desk.store.fills_of(CARRY, position.position_id)
        if row.venue == VenueName.HYPERLIQUID
    ]
    foreign = {row.fill_id for row in desk.store.fills(start, end + 1) if row.subject is None}
    funding: list[FundingPayment] = [
        row
        for row in await desk.short.funding_payments(start, late_ms)
        if row.coin == position.underlying and start <= row.hour_ms <= end
    ]
    fills: list[Fill] = [
        row
        for row in await desk.short.fills(start, end)
        if row.asset == position.underlying and row.fill_id not in foreign
    ]
    differences = compare_funding(booked_funding, funding) + compare_fills(booked_fills, fills)
    return differences, len(funding) + len(fills)


async def report_on(desk: CarryDesk, position: Position) -> Report:
    """The whole account of one position, live or ended."""
    found, longs, shorts = await attribute_position(desk, position)
    differences, compared = await compare_ledgers(desk, position)
    seen = life_snapshots(desk.store.carry.snapshots(position.position_id))
    funding = desk.store.carry.funding_payments(position_id=position.position_id)
    return Report(
        position_id=position.position_id,
        title=f"{position.asset} long at {position.leverage.normalize():f}x against SOL-PERP short",
        status=position.status,
        opened_ms=position.opened_ms or position.created_ms,
        ended_ms=position.closed_ms or desk.clock.now_ms(),
        attribution=found,
        exit_reason=position.close_reason,
        trades=trades_of(longs, shorts, position.asset),
        events=life_events(desk, position),
        differences=differences,
        rows_compared=compared,
        drawdown=max_drawdown(equity_curve(seen)) if seen else None,
        naked=naked(desk, position.position_id),
        funding_apr=realised_funding_apr(funding),
        facts={"duplicates prevented": str(len(lost_answers(desk, position.position_id)))},
    )
