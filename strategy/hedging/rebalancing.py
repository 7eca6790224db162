"""What is moved between chain and broker, by target and deviation: how much, by which steps, at what cost. Pure.

Amounts are shares of a symbol or USDC, rounded down to the decimals that every place on the way takes. What rounding leaves
stays where it is.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from pydantic import Field

from evenkeel.types import Frozen
from strategy.hedging.decision import ROUGH, WIDE, ZERO, Hold, cut

USDC = "USDC"
USDC_DECIMALS, SHARE_DECIMALS, CENT_DECIMALS = 6, 9, 2
"""USDC's own; of shares at the broker; of dollars in a journal."""
BPS = Decimal(10_000)


class Direction(StrEnum):
    """Which side has too little."""

    TO_CHAIN = "to-chain"
    TO_BROKER = "to-broker"


class Kind(StrEnum):
    """A step. `arrive`, `bridge` and `redeemed` send nothing of ours: they wait for a proof."""

    JOURNAL = "journal"
    """To the broker's account that has wallets and tokens."""
    MINT = "mint"
    """Shares become tokens in our wallet."""
    ARRIVE = "arrive"
    """The tokens are in our wallet, as the chain says."""
    WRAP = "wrap"
    DEPOSIT = "deposit"
    """From our wallet into our vault."""
    WITHDRAW = "withdraw"
    """From our vault into our wallet."""
    UNWRAP = "unwrap"
    SEND = "send"
    """Tokens to the issuer, who takes them back."""
    REDEEMED = "redeemed"
    """The broker has given shares for them."""
    CONVERT = "convert"
    """Dollars into USDC, or back."""
    PAY_OUT = "pay-out"
    """USDC from the broker's wallet to our address on its chain."""
    BRIDGE = "bridge"
    """Between the chains, by a person; a balance proves it."""
    JOURNAL_BACK = "journal-back"
    """To the account that hedges."""


ON_CHAIN = frozenset({Kind.WRAP, Kind.DEPOSIT, Kind.WITHDRAW, Kind.UNWRAP, Kind.SEND})
APPROVED_FIRST = frozenset({Kind.WRAP, Kind.DEPOSIT})
"""Steps whose tokens a contract takes from our wallet: it is allowed just so much before."""


class Sides(Frozen):
    """What there is of a scope. `free` of the broker's is not needed by hedges that are open."""

    chain: Decimal
    broker: Decimal
    free: Decimal

    @property
    def share(self) -> Decimal | None:
        """The part that is on chain, rounded for reading; None of nothing."""
        whole = WIDE.add(self.chain, self.broker)
        return ROUGH.divide(self.chain, whole) if whole > 0 else None


class Aim(Frozen):
    """Which part is to be on chain, how far from it nothing is moved, and the bounds of one move in USD."""

    target: Decimal = Field(gt=0, lt=1)
    deviation: Decimal = Field(gt=0, lt=1)
    least_usd: Decimal
    most_usd: Decimal


class Way(Frozen):
    """What lies between the two sides of a scope."""

    scope: str
    decimals: int = Field(ge=0, le=36)
    """Of the token in the vault."""
    is_wrapped: bool = False
    by_journal: bool = False
    """Another account of the broker has the wallets."""
    least_units: Decimal = ZERO
    """What the broker's wallet sends at least."""
    most_units: Decimal | None = None
    """Of one move."""
    ratio: Decimal = Decimal(1)
    """Shares that one token in the vault is worth."""

    @property
    def is_usdc(self) -> bool:
        return self.scope == USDC


class Prices(Frozen):
    """USD a unit of the scope, and what steps are assumed to cost."""

    usd: Decimal = Field(gt=0)
    conversion_bps: Decimal = ZERO
    bridge_bps: Decimal = ZERO
    withdrawal_usd: Decimal = ZERO


class Cost(Frozen):
    """What a step is assumed to cost, in USD."""

    what: str
    usd: Decimal


class Proposal(Frozen):
    """So much in that direction by these steps. `transactions` are those that pay gas, approvals with them."""

    scope: str
    direction: Direction
    amount: Decimal
    usd: Decimal
    steps: tuple[Kind, ...]
    costs: tuple[Cost, ...]
    transactions: int
    why: str


def steps_of(way: Way, direction: Direction) -> tuple[Kind, ...]:
    """Return the steps of a move, in order."""
    out = (Kind.JOURNAL,) if way.by_journal else ()
    back = (Kind.JOURNAL_BACK,) if way.by_journal else ()
    if way.is_usdc:
        if direction is Direction.TO_CHAIN:
            return (*out, Kind.CONVERT, Kind.PAY_OUT, Kind.BRIDGE, Kind.DEPOSIT)
        return (Kind.WITHDRAW, Kind.BRIDGE, Kind.CONVERT, *back)
    if direction is Direction.TO_CHAIN:
        return (*out, Kind.MINT, Kind.ARRIVE, *((Kind.WRAP,) if way.is_wrapped else ()), Kind.DEPOSIT)
    return (Kind.WITHDRAW, *((Kind.UNWRAP,) if way.is_wrapped else ()), Kind.SEND, Kind.REDEEMED, *back)


def decimals_of(kind: Kind, way: Way) -> int:
    """Return how many decimals the amount that goes into a step may have."""
    if way.is_usdc:
        return CENT_DECIMALS if kind in (Kind.JOURNAL, Kind.JOURNAL_BACK) else USDC_DECIMALS
    if kind in (Kind.WRAP, Kind.DEPOSIT, Kind.WITHDRAW, Kind.UNWRAP, Kind.ARRIVE):
        return way.decimals
    return min(SHARE_DECIMALS, way.decimals)


def into_step(kind: Kind, way: Way, given: Decimal, prices: Prices, direction: Direction) -> Decimal:
    """Return the amount of a step: what the one before it gave, rounded down. A conversion of dollars from a journal leaves
    room for its cost, since there are no others in that account; one into dollars takes all that came.
    """
    if kind is Kind.WITHDRAW and way.ratio != 1:
        given = ROUGH.divide(given, way.ratio)
    if kind is Kind.CONVERT and way.by_journal and direction is Direction.TO_CHAIN:
        given = WIDE.multiply(given, (BPS - 2 * prices.conversion_bps) / BPS)
    return cut(given, decimals_of(kind, way))


def proposed(way: Way, sides: Sides, aim: Aim, prices: Prices) -> Proposal | Hold:
    """Return what brings the scope back to its target, or why nothing is proposed."""
    share = sides.share
    if share is None:
        return Hold(why="there is none on either side")
    if abs(share - aim.target) <= aim.deviation:
        return Hold(why=f"{share:.1%} are on chain, within {aim.deviation:.0%} of {aim.target:.0%}")
    whole = WIDE.add(sides.chain, sides.broker)
    missing = WIDE.subtract(WIDE.multiply(whole, aim.target), sides.chain)
    direction = Direction.TO_CHAIN if missing > 0 else Direction.TO_BROKER
    there = sides.free if direction is Direction.TO_CHAIN else sides.chain
    most = ROUGH.divide(aim.most_usd, prices.usd)
    most = most if way.most_units is None else min(most, way.most_units)
    steps = steps_of(way, direction)
    decimals = min(decimals_of(kind, way) for kind in steps)
    amount = cut(max(min(abs(missing), most, there), ZERO), decimals)
    usd = ROUGH.multiply(amount, prices.usd)
    if usd < aim.least_usd or amount < way.least_units:
        least = (
            f"{aim.least_usd} USD"
            if usd < aim.least_usd
            else f"{way.least_units} {way.scope}, the least of a transfer"
        )
        return Hold(
            why=f"{share:.1%} are on chain and {aim.target:.0%} are aimed at; {amount:f} can be moved, below {least}",
            is_short_of=True,
        )
    costs = _costs(steps, usd, prices)
    return Proposal(
        scope=way.scope,
        direction=direction,
        amount=amount,
        usd=usd,
        steps=steps,
        costs=costs,
        transactions=sum(1 + 2 * (kind in APPROVED_FIRST) for kind in steps if kind in ON_CHAIN),
        why=f"{share:.1%} are on chain, {aim.target:.0%} within {aim.deviation:.0%} are aimed at",
    )


def _costs(steps: tuple[Kind, ...], usd: Decimal, prices: Prices) -> tuple[Cost, ...]:
    cent = Decimal("0.01")
    found = []
    for kind in steps:
        if kind is Kind.CONVERT:
            found.append(Cost(what="conversion", usd=ROUGH.multiply(usd, prices.conversion_bps / BPS)))
        elif kind is Kind.BRIDGE:
            found.append(Cost(what="bridge", usd=ROUGH.multiply(usd, prices.bridge_bps / BPS)))
        elif kind is Kind.PAY_OUT:
            found.append(Cost(what="withdrawal", usd=prices.withdrawal_usd))
    return tuple(one.model_copy(update={"usd": one.usd.quantize(cent, context=ROUGH)}) for one in found)


def may_begin(usd: Decimal, moved_usd: Decimal, cap_usd: Decimal) -> str | None:
    """Return why a proposal is not approved by itself: what was so approved within a day, and this, pass the cap. Else None."""
    after = WIDE.add(usd, moved_usd)
    if after <= cap_usd:
        return None
    return (
        f"{after:.2f} USD would be approved by itself within a day, allowed are {cap_usd}: approve it by hand"
    )
