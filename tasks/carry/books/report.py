"""Build the account of a position from what was read of ledger and venues. Pure: nothing is asked here."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from analytics.agreement import Difference, compare_fills
from analytics.carry.agreement import compare_funding
from analytics.carry.attribution import Attribution, VenueChange, attribute
from analytics.carry.equity import Naked, equity_curve, max_drawdown, realised_funding_apr
from analytics.carry.legs import GasCost, LongEvent, LongMark, ShortFill
from analytics.carry.life import LifeEvent, LifeSnapshot
from analytics.carry.report import Report, trades_of
from analytics.carry.waiting import moved_before_long, moved_before_short
from evenkeel.legs import IntentKind, LegReceipt, LegSide, LendingChange
from evenkeel.types import Decided, IntentState
from state.carry.liquidation_models import Liquidation
from state.carry.models import LegStatus, PositionSnapshot
from state.models import Intent
from strategy.carry.keeping_size import GROWTH_RULE, PAID_FIRST, RESERVE_RULE
from tasks.carry.books.external_short import SEIZED_MARGIN
from tasks.carry.books.marks import Seen
from tasks.carry.books.report_reading import Booked, Held, Listed
from tasks.carry.books.thinning import marked
from tasks.carry.mark import Mark
from tasks.intents import FOUND_AFTER_UNKNOWN

KINDS = {IntentKind.OPEN: "open", IntentKind.CLOSE: "close", IntentKind.RESIZE: "resize"}


def report_from(booked: Booked, held: Held, listed: Listed) -> Report:
    """Return the whole account of one position, live or ended."""
    position = booked.position
    longs, shorts = long_events(booked), short_fills(booked)
    differences, compared = compare(booked, listed)
    seen = life_snapshots(booked.snapshots, paid_in(booked))
    return Report(
        position_id=position.position_id,
        title=f"{position.asset} long at {position.leverage.normalize():f}x against SOL-PERP short",
        status=position.status,
        opened_ms=booked.opened_ms,
        ended_ms=booked.ended_ms,
        attribution=attributed(booked, held, longs, shorts),
        exit_reason=position.close_reason,
        trades=trades_of(longs, shorts, position.asset),
        events=life_events(booked),
        differences=differences,
        rows_compared=compared,
        drawdown=max_drawdown(equity_curve(seen)) if seen else None,
        naked=naked(booked),
        funding_apr=realised_funding_apr(booked.funding),
        moved_before_long_usd=moved_before_long(longs),
        moved_before_short_usd=moved_before_short(shorts),
        facts={"duplicates prevented": str(len(lost_answers(booked)))} | not_counted(held),
    )


def confirmed(booked: Booked, leg: LegSide) -> list[tuple[Intent, LegReceipt]]:
    """Return everything that happened on a leg, in order of time."""
    done = [
        (intent, LegReceipt.model_validate(intent.result))
        for intent in booked.intents
        if intent.part == leg and intent.state is IntentState.CONFIRMED
    ]
    return sorted(done, key=lambda one: one[1].settled_ms)


def long_events(booked: Booked) -> list[LongEvent]:
    """Return the landed transactions of the long leg and what its lender seized, each with the market at its moment."""
    events = [_seizure(row) for row in booked.liquidations]
    for intent, receipt in confirmed(booked, LegSide.LONG):
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
                decided_sol_usd=_decided(receipt),
                sent_sol_usd=seen.sol_price_usd if (seen := Seen.of(receipt)) is not None else None,
            )
        )
    return sorted(events, key=lambda event: event.at_ms)


def _decided(receipt: LegReceipt) -> Decimal | None:
    """SOL's price when the order of a receipt was decided; None where it was not kept."""
    decided = receipt.detail.get("decided")
    return None if decided is None else Decided.model_validate(decided).price_usd


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


def short_fills(booked: Booked) -> list[ShortFill]:
    """Return every fill of the perpetual that belongs to the position, each with the mid when its order was sent.

    A fill without an order of ours (liquidation, auto-deleveraging) was sent by nobody: its own price stands in for the mid.
    """
    sent: dict[str, dict[str, Decimal | None]] = {}
    for _, receipt in confirmed(booked, LegSide.SHORT):
        prices = {
            "reference_price_usd": Decimal(receipt.detail["reference_px"]),
            "index_price_usd": Mark.model_validate(receipt.detail["mark"]).sol_price_usd,
            "decided_sol_usd": _decided(receipt),
        }
        sent |= {fill.fill_id: prices for fill in receipt.fills}
    found = []
    for row in booked.short_fills:
        alone = {
            "reference_price_usd": row.price_usd,
            "index_price_usd": booked.prices_at_fills.get(row.time_ms, row.price_usd),
        }
        found.append(ShortFill(fill=row.fill, **sent.get(row.fill_id, alone)))  # type: ignore[arg-type]
    return found


def attributed(
    booked: Booked, held: Held, longs: Sequence[LongEvent], shorts: Sequence[ShortFill]
) -> Attribution:
    """Return every item from the books, held against balances read from the venues and never from the books."""
    before, after, marks, equity_after = held.before, held.after, long_marks(booked.snapshots), Decimal(0)
    if (view := held.open_long) is not None:
        prices = held.mark.model_dump(exclude={"source"})
        marks.append(LongMark(tokens=view.qty, debt_usd=view.debt_usd, **prices))
        equity_after = view.qty * held.mark.token_price_usd - view.debt_usd
    return attribute(
        long_events=longs,
        short_fills=shorts,
        funding=booked.funding,
        venue=VenueChange(
            hyperliquid_before_usd=before.hyperliquid_usd,
            hyperliquid_after_usd=after.hyperliquid_usd,
            hyperliquid_deposits_usd=held.moved.deposits_usd,
            wallet_usdc_before=before.wallet_usdc,
            wallet_usdc_after=after.wallet_usdc,
            long_equity_after_usd=equity_after,
            sol_lamports_spent=before.wallet_lamports - after.wallet_lamports,
            sol_price_after_usd=held.mark.sol_price_usd,
        ),
        capital_usd=Decimal(booked.position.facts["capital_usd"]),
        opened_ms=booked.opened_ms,
        ended_ms=booked.ended_ms,
        long_marks=marks,
        short_mark_price_usd=held.short_mark_usd,
        other_gas=other_gas(booked, held.lamports_taken),
        margin_seized_usd=margin_seized_usd(booked),
    )


def long_marks(snapshots: Sequence[PositionSnapshot]) -> list[LongMark]:
    """Return the long leg as the monitor saw it, once an hour."""
    marks = []
    for one in marked(snapshots):
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


def not_counted(held: Held) -> dict[str, str]:
    """Return the rows of Hyperliquid's ledger that are in no figure of the account, by name; nothing where there are none."""
    lines = {}
    if held.moved.unplaced:
        lines["movements that the books cannot place"] = "; ".join(held.moved.unplaced)
    if held.unread:
        lines["rows that could not be read"] = held.unread
    return lines


def other_gas(booked: Booked, lamports_taken: dict[str, int]) -> list[GasCost]:
    """Return the lamports beside the booked gas and tips: transactions that landed and failed, rent paid or returned.

    A failed one is valued at the price that its order was decided by, else at the entry's reference price.
    """
    price = booked.position.ref_long_price_usd or Decimal(1)
    costs: list[GasCost] = []
    for intent in booked.intents:
        taken, at_ms, paid_at = lamports_taken.get(intent.intent_id, 0), intent.created_ms, price
        if (decided := intent.order.get("decided")) is not None:
            paid_at = Decided.model_validate(decided).price_usd
        if intent.part == LegSide.LONG and intent.state is IntentState.CONFIRMED:
            receipt = LegReceipt.model_validate(intent.result)
            assert receipt.lending is not None
            taken -= receipt.lending.gas_lamports + receipt.lending.tip_lamports
            at_ms = receipt.settled_ms
            paid_at = Mark.model_validate(receipt.detail["mark"]).sol_price_usd
        if taken:
            ref = f"beside:{intent.intent_id}"
            costs.append(GasCost(ref=ref, at_ms=at_ms, gas_lamports=taken, sol_price_usd=paid_at))
    return costs


def margin_seized_usd(booked: Booked) -> Decimal:
    """Return what a backstop liquidation took of the margin beyond its fills."""
    fees = [fee.amount_usd for fee in booked.fees if fee.kind == SEIZED_MARGIN]
    return sum((usd for usd in fees if usd is not None), Decimal(0))


def compare(booked: Booked, listed: Listed) -> tuple[list[Difference], int]:
    """Return where funding payments and perpetual fills of the position's life differ from the venue's own rows, and how
    many of those were compared.
    """
    start, end, coin = booked.position.created_ms, booked.ended_ms, booked.position.underlying
    funding = [row for row in listed.funding if row.coin == coin and start <= row.hour_ms <= end]
    fills = [row for row in listed.fills if row.asset == coin and row.fill_id not in booked.foreign_fill_ids]
    booked_fills = [row.fill for row in booked.short_fills]
    differences = compare_funding(booked.funding, funding) + compare_fills(booked_fills, fills)
    return differences, len(funding) + len(fills)


def paid_in(booked: Booked) -> list[tuple[int, Decimal]]:
    """Return the USDC that went from the wallet into the long after it was opened, each with its moment in ms; below zero came
    out again.
    """
    return [
        (receipt.settled_ms, -receipt.lending.wallet_usdc_delta)
        for intent, receipt in confirmed(booked, LegSide.LONG)
        if intent.kind == IntentKind.RESIZE and receipt.lending is not None
    ]


def life_snapshots(
    snapshots: Sequence[PositionSnapshot], paid: Sequence[tuple[int, Decimal]] = ()
) -> list[LifeSnapshot]:
    """Return what the picture of a position's life shows, from what the monitor saw. Money that was paid in is nothing that
    was earned: it is taken off the equity from its moment on.
    """

    def earned(one: PositionSnapshot) -> float | None:
        if one.equity_usd is None:
            return None
        return float(one.equity_usd - sum((usd for at_ms, usd in paid if at_ms <= one.at_ms), Decimal(0)))

    return [
        LifeSnapshot(
            at_ms=one.at_ms,
            funding_rate_hourly=_float(one.funding_rate_hourly),
            long_distance=_float(one.long_liquidation_distance),
            short_distance=_float(one.short_liquidation_distance),
            equity_usd=earned(one),
        )
        for one in snapshots
    ]


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _change_of_size(reason: str) -> str:
    """What a change of size was, in a word, from the rule that its reason begins with."""
    if reason.startswith(f"{RESERVE_RULE}:") or reason.endswith(PAID_FIRST):
        return "paid in"
    return "grown" if reason.startswith(f"{GROWTH_RULE}:") else "rebalance"


def life_events(booked: Booked) -> list[LifeEvent]:
    """Return entry, rebalances, lost answers and exit, as they are marked in the picture."""
    position = booked.position
    rebalances: list[dict[str, Any]] = position.facts.get("rebalances", [])
    events = [
        LifeEvent(at_ms=int(one["at_ms"]), kind=(what := _change_of_size(str(one["reason"]))), label=what)
        for one in rebalances
    ] + [
        LifeEvent(at_ms=at_ms, kind="lost answer", label="answer lost", tone="trouble")
        for at_ms in lost_answers(booked)
    ]
    if position.opened_ms:
        events.insert(0, LifeEvent(at_ms=position.opened_ms, kind="enter", label="enter"))
    if position.closed_ms:
        events.append(LifeEvent(at_ms=position.closed_ms, kind="exit", label="exit"))
    return sorted(events, key=lambda event: event.at_ms)


def lost_answers(booked: Booked) -> list[int]:
    """Return when an order turned out to have happened although its answer was lost: a plain retry would have doubled it."""
    return [
        attempt.sent_ms or attempt.signed_ms
        for intent in booked.intents
        for attempt in booked.attempts[intent.intent_id]
        if attempt.evidence == FOUND_AFTER_UNKNOWN
    ]


def naked(booked: Booked) -> Naked:
    """Return how long one leg stood without the other, from the audit log of both legs."""
    open_legs: set[str] = set()
    total = longest = 0.0
    since_ms = 0
    for event in booked.leg_moves:
        if len(open_legs) == 1:
            lasted = (event.at_ms - since_ms) / 1000
            total, longest = total + lasted, max(longest, lasted)
        since_ms = event.at_ms
        if event.to_state == LegStatus.OPEN:
            open_legs.add(event.entity_id)
        else:
            open_legs.discard(event.entity_id)
    return Naked(total_seconds=total, longest_seconds=longest)
