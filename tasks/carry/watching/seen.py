"""What one tick reads of a position: both legs and the market, each reading apart, so that one that fails spoils no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import TypeVar

from pydantic import Field

from evenkeel.errors import UNREAD, NotUnderstood, OperatorError, Retryable, VenueRefused
from evenkeel.legs import LegSide, LegView
from evenkeel.types import Frozen, VenueName
from state.carry.models import Leg, Position
from strategy.carry.funding import apr_from_apy
from tasks.carry.desk import CarryDesk
from tasks.carry.expected import expected_funding
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import staking_apr
from tasks.carry.prices import APART
from venues.asgard.mints import TOKENS, USDC
from venues.hyperliquid.market import PerpContext
from venues.reading import Oddity

T = TypeVar("T")
TIMEOUT_S = 10.0
"""Wall seconds that a tick waits for one reading: a venue that hangs must not blind us to the other leg."""
PRICES = f"{VenueName.HYPERLIQUID} metaAndAssetCtxs"
RATES_TTL_MS = 300_000
"""Lending rates move slowly: a few minutes old is fresh enough for the carry, and spares the venue's request budget."""


class Seen(Frozen):
    """What one tick could read; None is "could not be read", which never counts as calm."""

    at_ms: int
    context: PerpContext | None
    long: LegView | None
    long_read: bool
    short: LegView | None
    short_read: bool
    sol_price_usd: Decimal | None
    token_price_usd: Decimal | None
    redemption_rate: Decimal | None
    funding_expected_hourly: Decimal | None
    lend_apr: Decimal | None
    borrow_apr: Decimal | None
    staking_apr: Decimal
    failed: tuple[VenueName, ...] = ()
    """Venues that could not be asked for their leg."""
    not_understood: dict[LegSide, str] = Field(default_factory=dict)
    """Legs whose venue answered what cannot be understood, and what that was."""

    @property
    def misses_a_leg(self) -> bool:
        """A venue answered, and shows no leg."""
        return (self.long_read and self.long is None) or (self.short_read and self.short is None)


async def read_position(desk: CarryDesk, position: Position, long_leg: Leg | None) -> Seen:
    """Both venues side by side. A leg that cannot be read is named, by whether its venue answered; what else fails leaves
    its figures empty, and is no outage.
    """
    unread = Unread()
    context, short, (long, prices), rates, redemption, expected = await asyncio.gather(
        _try(desk.short.market.context(position.underlying)),
        unread.leg(desk.short.leg(position.underlying), LegSide.SHORT, VenueName.HYPERLIQUID),
        _long_side(desk, long_leg, unread),
        _try(_rates(desk, position)),
        _try(desk.long.redemption_rate(position.asset)),
        expected_funding(desk, position.underlying),
    )
    context = _spoken_for(desk, context, short, (prices or {}).get("SOL"))
    short = _of_this_market(unread, context, short)
    fair = context.oracle_px * redemption if context is not None and redemption is not None else None
    if context is not None and fair is not None:
        desk.long.note_price(position.asset, fair, context.observed_ms)
    long = desk.carried.on(long, fair)
    if long is not None and long.on_chain and long.debt_usd > 0 and long.liquidation_distance is None:
        long, prices = await _long_side(desk, long_leg, unread, stated=True)  # nothing to carry it on with
    return Seen(
        at_ms=desk.clock.now_ms(),
        context=context,
        long=long,
        long_read=LegSide.LONG not in unread.sides,
        short=short,
        short_read=LegSide.SHORT not in unread.sides,
        sol_price_usd=(prices or {}).get("SOL"),
        token_price_usd=(prices or {}).get(position.asset),
        redemption_rate=redemption,
        funding_expected_hourly=expected,
        lend_apr=rates[0] if rates else None,
        borrow_apr=rates[1] if rates else None,
        staking_apr=staking_apr(desk, position.asset),
        failed=tuple(sorted(unread.failed)),
        not_understood=unread.odd,
    )


def _spoken_for(
    desk: CarryDesk, context: PerpContext | None, short: LegView | None, listed_usd: Decimal | None
) -> PerpContext | None:
    """The market with every price of SOL that stands alone replaced by one that others speak for, and named: the oracle's
    where the mark and Asgard's price agree against it, the mark where the oracle's and the mark of our own row do.
    """
    if context is None:
        return None
    limit, mark, oracle = desk.settings.limits.exit_price_deviation, context.mark_px, context.oracle_px
    row = short.price_usd if short is not None else None
    if listed_usd and agree(mark, listed_usd, limit) and not agree(oracle, mark, limit):
        _name(desk, "oraclePx", oracle, mark)
        return context.model_copy(update={"oracle_px": mark})
    if row and agree(row, oracle, limit) and not agree(mark, oracle, limit):
        _name(desk, "markPx", mark, row)
        return context.model_copy(update={"mark_px": row})
    return context


def _name(desk: CarryDesk, field: str, price: Decimal, others: Decimal) -> None:
    """Name a price that stands alone among what the last answer has odd."""
    row, value = f"prices {UNDERLYING}", f"{price:.6g} and stands alone: the others say {others:.6g}"
    desk.oddities.add(PRICES, [Oddity(PRICES, row, field, value, lost=False)])


def _of_this_market(unread: Unread, context: PerpContext | None, short: LegView | None) -> LegView | None:
    """The short; None where a long stands in its place. Where its row speaks of another price than mark and oracle, its figures
    are not understood.
    """
    if short is None:
        return None
    if (
        context is not None
        and agree(context.mark_px, context.oracle_px, APART)
        and not agree(short.price_usd, context.mark_px, APART)
    ):
        text = f"clearinghouseState: positionValue over szi is {short.price_usd:.6g}, the mark {context.mark_px:.6g}"
        unread.note(LegSide.SHORT, NotUnderstood(VenueName.HYPERLIQUID, text))
        return None
    return short if short.side is LegSide.SHORT else None  # it hedges nothing: ours is not shown


def agree(one: Decimal, other: Decimal, within: Decimal) -> bool:
    """Whether two prices differ by no more than this share."""
    return abs(one / other - 1) <= within


class Unread:
    """Legs that one tick could not read: because their venue `failed` to answer, or answered what is `odd`."""

    def __init__(self) -> None:
        self.failed: set[VenueName] = set()
        self.odd: dict[LegSide, str] = {}
        self.sides: set[LegSide] = set()

    async def leg(
        self, reading: Awaitable[LegView | None], side: LegSide, venue: VenueName
    ) -> LegView | None:
        """The leg as its venue shows it; None where it shows none or could not be read."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await reading
        except NotUnderstood as odd:
            self.note(side, odd)
            return None
        except (Retryable, VenueRefused, OperatorError, TimeoutError):
            self.failed.add(venue)
        self.sides.add(side)
        return None

    def note(self, side: LegSide, odd: NotUnderstood) -> None:
        """Note that what was said of a leg cannot be understood."""
        self.odd[side] = str(odd)
        self.sides.add(side)


async def _long_side(
    desk: CarryDesk, leg: Leg | None, unread: Unread, *, stated: bool = False
) -> tuple[LegView | None, dict[str, Decimal] | None]:
    """Our lending position and Asgard's prices in two requests, so that a tick every 2 s fits the venue's limit; of several
    accounts the position comes from its lender's accounts, unless its distance must be `stated` by Asgard.
    """
    prices = await _try(desk.long.token_prices())
    known = [(int(leg.protocol or 0), leg.ref)] if leg else []

    async def view() -> LegView | None:
        on_chain = not stated and leg is not None and desk.carried.knows(leg.ref)
        views = await desk.long.legs(
            known_pdas=known, only_known=True, on_chain=on_chain, prices=prices or {}
        )
        if leg is not None and desk.long.client.is_unanswered(leg.ref):
            unread.failed.add(VenueName.ASGARD)  # seen all the same, and not to be closed now
        return next((one for one in views if leg is not None and one.ref == leg.ref), None)

    return await unread.leg(view(), LegSide.LONG, VenueName.ASGARD), prices


async def _rates(desk: CarryDesk, position: Position) -> tuple[Decimal, Decimal]:
    """Lending and borrowing APR of the position's market; quotes move slowly, so a minute-old one will do."""
    for strategy in await desk.long.markets(max_age_ms=RATES_TTL_MS):
        if (strategy.token_a_mint, strategy.token_b_mint) == (TOKENS[position.asset].mint, USDC.mint):
            for source in strategy.liquidity_sources:
                if source.lending_protocol == position.protocol:
                    lend, borrow = source.token_a_lending_apy, source.token_b_borrowing_apy
                    if lend is None or borrow is None:
                        raise NotUnderstood("asgard", f"the rates of {position.asset}")
                    return apr_from_apy(lend), apr_from_apy(borrow)
    raise VenueRefused("asgard", f"{position.asset} on protocol {position.protocol} is not among the markets")


async def _try(reading: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await reading
    except (*UNREAD, OperatorError, TimeoutError):
        return None
