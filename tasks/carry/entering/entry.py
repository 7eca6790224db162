"""The steps of an entry after pre-flight, each of which resumes where the ledger says that it stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeVar

from evenkeel.errors import UNREAD, Bug, EvenkeelError, OperatorError
from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.types import Built, Frozen, IntentState, VenueName
from state.carry.models import Leg, Position
from state.models import Fence
from state.watch_models import Severity
from strategy.carry.budget import EntryBudget
from strategy.carry.entry import (
    ShortStep,
    TopUpStep,
    Validation,
    Verdict,
    next_short_attempt,
    top_up,
    validate_delta,
    validate_fills,
)
from strategy.carry.sizing import exposure_sol, short_qty_for
from tasks.carry.closing.leftovers import wallet_tokens
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.clearing import Cleared
from tasks.carry.entering.reference import TOKEN_REFERENCE, naked_from_usd, refuse_signing
from tasks.carry.exit_needs import read_exit_needs
from tasks.carry.legs import finish_started, plan, plan_step
from tasks.carry.limits import limits_of
from tasks.carry.mark import UNDERLYING, underlying_of
from tasks.carry.orders import decided_at, perp_order
from tasks.carry.watching.alerts import RESIDUAL, UNRESOLVED, end_watch
from tasks.carry.watching.leg_readings import THRESHOLD, threshold_of
from tasks.carry.watching.needs import MODE_AT_ENTRY, MODE_TTL_MS
from tasks.carry.watching.seen import agree
from tasks.intents import NotDone, Unsettled, carry_out
from tasks.step import retried, step
from venues.reading import Oddity

T = TypeVar("T")
FILLS = f"{VenueName.HYPERLIQUID} userFillsByTime"


def budget_of(desk: CarryDesk) -> EntryBudget:
    """How often and how long an entry tries, under this desk's settings."""
    return EntryBudget.of(limits_of(desk))


@step("write the plan down", tags=("ledger",))
async def write_down(desk: CarryDesk, cleared: Cleared, fence: Fence | None = None) -> Position:
    """Make the position row in OPENING, with what both venues held before anything was sent.

    Raises Bug for a plan that was not cleared: no check, no position.
    """
    if not isinstance(cleared, Cleared):
        raise Bug("only what passed every check of an entry can be written down")
    plan = cleared.plan
    wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    position_id = f"{plan.asset.lower()}-{desk.clock.now_ms()}"
    facts: dict[str, Any] = {
        "before": {
            "hyperliquid_usd": account.account_value_usd,
            "wallet_usdc": wallet.usdc,
            "wallet_lamports": wallet.sol_lamports,
            "wallet_tokens": await wallet_tokens(desk, plan.asset),
            "at_ms": desk.clock.now_ms(),
        },
        "long_order": plan.long_order().model_dump(mode="json") | {"decided": decided_at(desk)},
        "carry_usd_per_hour": plan.carry_usd_per_hour,
        "capital_usd": plan.size.deployment_usd,
        "leverage": plan.size.leverage,
        TOKEN_REFERENCE: plan.token_price_usd,
    }
    return desk.store.carry.create_position(
        position_id,
        asset=plan.asset,
        underlying=underlying_of(plan.asset),
        **desk.accounts._asdict(),
        protocol=plan.protocol,
        leverage=Decimal(plan.size.leverage),
        size_usd=plan.size.position_usd,
        target_short_qty=plan.estimated_short_qty,
        ref_long_price_usd=plan.asgard_sol_price_usd,
        ref_short_price_usd=plan.hyperliquid_mark_usd,
        expected_apr=plan.expected_apr,
        facts=facts,
        fence=fence,
    )


class LongOpening(Frozen):
    """How the first leg went: held, not held (and never will be), or not known yet."""

    held: bool
    unknown: bool = False
    refused: bool = False
    """The builder or the lender refused it, or our rules its build: another offer may be taken."""
    reason: str = ""


class Hedge(Frozen):
    """How the second leg went. `complete` is False when the long must be unwound."""

    complete: bool
    reason: str
    unsettled: bool = False
    """An order of the short has no proved outcome: it may have done all that is missing."""


@step("set the leverage of the short", tags=("wire",))
async def set_short_leverage(desk: CarryDesk, position: Position) -> str | None:
    """Done before the long is opened, so that a venue that refuses it leaves nothing naked; why it failed, or None."""
    if desk.store.intents_of(CARRY, position.position_id):
        return None  # done before the long was planned
    try:
        await desk.short.set_leverage(position.underlying, int(position.leverage))
    except (*UNREAD, OperatorError) as error:
        return f"leverage could not be set: {error}"
    return None


@step("open the long leg", tags=("wire",))
async def open_long(
    desk: CarryDesk, position: Position, fence: Fence, *, resumed: bool = False
) -> LongOpening:
    """Open the lending position, exactly once; a second attempt only after the first is proved dead. Neither is signed
    once a price has left the plan's, or where what it writes to has become too dear.

    `resumed`: by recovery, perhaps long after the plan was made and checked. Then what was sent is followed to its end,
    and what never left is dropped: an old decision must not open a new position.
    """
    if resumed:
        return await _resume_long(desk, position, fence)
    intent = plan_step(
        desk,
        position.position_id,
        LegSide.LONG,
        IntentKind.OPEN,
        0,
        position.facts["long_order"],
        fence,
    )
    budget, withdrawn = budget_of(desk), []

    async def ask(built: Built) -> str | None:
        try:
            why = await refuse_signing(desk, position, built)
        except EvenkeelError as unread:  # nothing that this offer could help
            withdrawn.append(str(unread))
            raise
        if why is not None:
            withdrawn.append(why)
        return why

    ending = await carry_out(
        desk,
        intent.intent_id,
        fence,
        attempts=budget.long_attempts,
        wait_s=budget.long_wait_s,
        before_signing=ask,
    )
    if isinstance(ending, Unsettled):
        return LongOpening(held=False, unknown=True, reason=ending.reason)
    if isinstance(ending, NotDone):
        return LongOpening(held=False, refused=ending.refused and not withdrawn, reason=ending.reason)
    return LongOpening(held=True)


async def _resume_long(desk: CarryDesk, position: Position, fence: Fence) -> LongOpening:
    reason = "interrupted before anything was sent"
    wait_s = budget_of(desk).long_wait_s
    for ending in await finish_started(desk, position.position_id, LegSide.LONG, fence, wait_s=wait_s):
        if isinstance(ending, Unsettled):
            return LongOpening(held=False, unknown=True, reason=ending.reason)
        if isinstance(ending, NotDone):
            reason = ending.reason
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    return LongOpening(held=True) if leg is not None else LongOpening(held=False, reason=reason)


@step("hedge with the short leg", tags=("wire",))
async def hedge(desk: CarryDesk, position: Position, fence: Fence) -> Hedge:
    """Short what the long *really* got: up to 15 tries 2 s apart, topped up after partial fills, the stop watched
    before each of them, from the reference or the long's own fill, whichever is higher. A missing price counts as the
    stop (docs/deviations.md, row 7).
    """
    budget = budget_of(desk)
    while True:
        for ending in await finish_started(
            desk, position.position_id, LegSide.SHORT, fence, wait_s=budget.short_wait_s
        ):
            if isinstance(ending, Unsettled):
                return Hedge(complete=False, reason=ending.reason, unsettled=True)
        long_leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
        if long_leg is None or not long_leg.is_open:
            return Hedge(complete=False, reason="the long leg is not there any more")
        price, rate = await price_and_rate(desk, position.asset)
        short = desk.store.carry.leg(position.position_id, LegSide.SHORT)
        decision = next_short_attempt(
            _attempts_made(desk, position),
            Decimal(desk.clock.now_ms() - long_leg.opened_ms) / 1000,
            price,
            naked_from_usd(position, long_leg, rate),
            budget,
            desk.settings.limits,
        )
        if price is not None and rate is not None:
            wanted = top_up(
                exposure_sol(long_leg.qty, rate),
                short.qty if short is not None and short.is_open else Decimal(0),
                price,
                desk.settings.limits,
            )
            if wanted.step is not TopUpStep.ORDER:
                if wanted.alert:
                    desk.store.alert(RESIDUAL, Severity.WARNING, wanted.reason, position.position_id)
                return Hedge(complete=True, reason=wanted.reason)
        if decision.step is ShortStep.UNWIND or price is None:
            return Hedge(complete=False, reason=decision.reason)
        if rate is None:
            what = f"the redemption rate of {position.asset} cannot be read: nobody knows what the long is worth in SOL"
            return Hedge(complete=False, reason=what)
        if _attempts_made(desk, position):
            await desk.clock.sleep(decision.wait_s)
        qty = short_qty_for(long_leg.qty, rate) if short is None else wanted.order_qty
        order = perp_order(
            qty, is_buy=False, reduce_only=False, slippage_bps=desk.settings.limits.max_slippage_entry_bps
        )
        intent = plan(desk, position.position_id, LegSide.SHORT, IntentKind.OPEN, order, fence)
        ending = await carry_out(desk, intent.intent_id, fence, wait_s=budget.short_wait_s)
        if isinstance(ending, Unsettled):
            return Hedge(complete=False, reason=ending.reason, unsettled=True)


def _attempts_made(desk: CarryDesk, position: Position) -> int:
    """Finished orders of the short that did not fill completely are attempts used up; fills are progress."""
    return sum(
        1
        for intent in desk.store.intents_of(CARRY, position.position_id)
        if intent.part == LegSide.SHORT
        and intent.kind == IntentKind.OPEN
        and intent.state is IntentState.FAILED
    )


async def price_and_rate(desk: CarryDesk, asset: str) -> tuple[Decimal | None, Decimal | None]:
    """SOL's price at the short's venue and the asset's redemption rate, or None for what cannot be read now."""
    try:
        price: Decimal | None = await desk.short.market.fair_price(UNDERLYING)
    except UNREAD:
        price = None
    try:
        rate = await desk.long.redemption_rate(asset)
    except UNREAD:
        rate = None
    return price, rate


@step("validate fills and delta", tags=("decide",))
async def validate(desk: CarryDesk, position: Position) -> Validation:
    """Soft stop on the fill prices, then the delta in SOL terms."""
    long_leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    short_leg = desk.store.carry.leg(position.position_id, LegSide.SHORT)
    rate = (
        await _known(desk, lambda: desk.books.read_mark(position.asset, position.underlying))
    ).redemption_rate

    def judged(short_fill_usd: Decimal | None) -> Validation:
        return validate_fills(
            _sol_price(long_leg, rate),
            short_fill_usd,
            position.size_usd or Decimal(0),
            Decimal(str(position.facts.get("carry_usd_per_hour", 0))),
            desk.settings.strategy,
            desk.settings.limits,
        )

    fills = judged(_sol_price(short_leg, Decimal(1)))
    if fills.verdict is Verdict.UNWIND and short_leg is not None:
        fills = judged(await _known(desk, lambda: _proved_fill(desk, position, short_leg)))
    if fills.verdict is not Verdict.ACCEPT:
        return fills
    delta = validate_delta(
        exposure_sol(long_leg.qty, rate) if long_leg else None,
        short_leg.qty if short_leg else None,
        desk.settings.limits,
    )
    return Validation(verdict=delta.verdict, reason=f"{fills.reason}; {delta.reason}")


async def _proved_fill(desk: CarryDesk, position: Position, leg: Leg) -> Decimal | None:
    """The short's fill price as the list of fills has it, or as the account does where that says otherwise of the same size:
    no position is unwound by one of them alone. Raises UNREAD.
    """
    listed = leg.entry_price_usd
    views = [one for one in await desk.short.legs() if one.ref == position.underlying and one.qty == leg.qty]
    shown = next((one.entry_price_usd for one in views), None)
    if listed is None or not shown or agree(shown, listed, desk.settings.limits.max_price_deviation):
        return listed
    value = f"{listed:.6g} and stands alone: the account's entry price is {shown:.6g}"
    desk.oddities.add(FILLS, [Oddity(FILLS, f"fills of {position.underlying}", "px", value, lost=False)])
    return shown


async def _known(desk: CarryDesk, read: Callable[[], Awaitable[T]]) -> T:
    """A figure that must be known before the position is called open; both legs are held, so that waiting costs nothing."""
    budget = budget_of(desk)
    return await retried(desk.clock, read, within_s=budget.reading_wait_s, every_s=budget.reading_interval_s)


def _sol_price(leg: Leg | None, rate: Decimal) -> Decimal | None:
    return None if leg is None or leg.entry_price_usd is None else leg.entry_price_usd / rate


@step("remember the distances at entry", tags=("ledger",))
async def remember_entry_distances(desk: CarryDesk, position: Position, fence: Fence) -> None:
    """Liquidation distances of both legs as they start, and the account's mode: what later readings are held against. And
    what a close will need to know.
    """
    long_leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    assert long_leg is not None
    known = [(int(long_leg.protocol or 0), long_leg.ref)]
    longs = await _known(desk, lambda: desk.long.legs(known_pdas=known))
    shorts = await _known(desk, desk.short.legs)
    distances = {
        side: next(
            (str(v.liquidation_distance) for v in views if v.ref == ref and v.liquidation_distance), None
        )
        for side, views, ref in (("long", longs, long_leg.ref), ("short", shorts, position.underlying))
    }
    facts: dict[str, Any] = {"entry_distance": distances}
    threshold = threshold_of(next((view for view in longs if view.ref == long_leg.ref), None))
    if threshold is not None:
        facts[THRESHOLD] = threshold
    with suppress(*UNREAD):  # else the watch keeps the mode that it first sees
        facts[MODE_AT_ENTRY] = await desk.short.mode(MODE_TTL_MS)
    with suppress(*UNREAD, OperatorError):  # else the watch keeps what it first sees
        facts |= await read_exit_needs(desk, position)
    desk.store.carry.set_facts(position.position_id, facts, fence=fence)


def alarm_unresolved(desk: CarryDesk, position_id: str, why: str) -> None:
    """Alert a person once; the alert ends with the entry."""
    text = f"{position_id} may hold a leg and is not open yet: {why}; `evenkeel recover` or `evenkeel monitor` goes on"
    desk.store.alert(UNRESOLVED, Severity.CRITICAL, text, subject=position_id)


@step("mark the position open", tags=("ledger",))
async def mark_open(desk: CarryDesk, position: Position, why: str, fence: Fence) -> Position:
    """Both legs are held and validated: from here on the monitor watches."""
    desk.store.ack_alert(UNRESOLVED, subject=position.position_id)
    return desk.store.carry.move_position(
        position.position_id, PositionStatus.OPENING, PositionStatus.OPEN, note=why, fence=fence
    )


@step("abandon the entry", tags=("ledger",))
async def abandon(desk: CarryDesk, position: Position, why: str, fence: Fence) -> Position:
    """Nothing was ever held: the entry ends as if it had not been tried."""
    end_watch(desk, position.position_id, fence)
    return desk.store.carry.move_position(
        position.position_id,
        PositionStatus.OPENING,
        PositionStatus.FAILED,
        note=why,
        fence=fence,
        close_reason=why,
    )
