"""What the rules of the carry trade judge: one frozen value for a tick of the watch, for an entry, and for the breakers.

None is "could not be read", which no rule takes for calm. Rates are fractions, prices USD of one SOL unless named
otherwise.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from evenkeel.legs import LegSide
from evenkeel.types import Frozen, VenueName
from strategy.breakers.readings import HealthReadings
from strategy.carry.sizing import OpenExposure, PositionSize


class LegReading(Frozen):
    """A leg as last seen. None is "could not be read"; a quantity of zero is "the venue shows no such
    leg".
    """

    qty: Decimal | None
    liquidation_distance: Decimal | None
    """As the venue states it."""
    own_distance: Decimal | None = None
    """As we work it out: from tokens, debt, price and threshold, or from equity and the tier's maintenance rate."""
    entry_liquidation_distance: Decimal
    observed_ms: int | None
    stands_still: bool = False
    """The venue's figure has not moved while the price has: it is old, however it is stamped."""

    @property
    def distance(self) -> Decimal | None:
        """The smaller of both liquidation distances; None where neither is known."""
        known = [one for one in (self.liquidation_distance, self.own_distance) if one is not None]
        return min(known, default=None)


class WatchReadings(Frozen):
    """Everything that one tick of a position judges."""

    now_ms: int
    asset: str
    position_usd: Decimal
    """Present notional of the long leg."""
    debt_usd: Decimal
    long: LegReading
    short: LegReading
    funding_now_hourly: Decimal | None
    funding_expected_hourly: Decimal | None
    """Mean of the settled hours (`strategy.carry.funding.expected_hourly`)."""
    lend_apr: Decimal | None
    borrow_apr: Decimal | None
    staking_apr: Decimal | None = Decimal(0)
    long_venue_price_usd: Decimal | None
    short_venue_price_usd: Decimal | None
    oracle_price_usd: Decimal | None = None
    """Hyperliquid's oracle price of SOL: a second opinion on either venue's."""
    long_price_proved: bool = False
    """The lender's own figures speak of the long venue's price."""
    lst_price_usd: Decimal | None = None
    """Market price of one LST token; not needed for SOL."""
    lst_price_stands_still: bool = False
    """It has not moved while SOL has."""
    redemption_rate: Decimal | None = Decimal(1)
    failures: dict[VenueName, int] = Field(default_factory=dict)
    """Calls failed in a row, per venue."""
    not_understood: dict[LegSide, str] = Field(default_factory=dict)
    """Legs of which a venue has answered what cannot be understood, and what that was."""
    breaches: dict[str, int] = Field(default_factory=dict)
    """Running breaches as stored: key → since when, in ms."""

    def leg(self, side: LegSide) -> LegReading:
        """The leg of this side."""
        return self.long if side is LegSide.LONG else self.short


class FailedOrder(Frozen):
    """An order that was sent and is proved dead: when that was known, what it was for, and the proof."""

    at_ms: int
    what: str
    why: str


class WarningReadings(Frozen):
    """Everything that the early warnings judge (`strategy.carry.warnings`). None is "could not be read", which neither starts
    a warning nor ends one. `running`: those that stand, by name.
    """

    now_ms: int
    running: frozenset[str] = frozenset()
    long: LegReading | None = None
    short: LegReading | None = None
    long_venue_price_usd: Decimal | None = None
    short_venue_price_usd: Decimal | None = None
    fee_lamports: int | None = None
    """That a transaction would have to bid now, before capping."""
    funding_day_hourly: Decimal | None = None
    """Mean of the hours settled over the last day."""
    funding_expected_hourly: Decimal | None = None
    drift: Decimal | None = None
    """Long less short as a share of the long, signed."""
    orders_read: bool = False
    failed_order: FailedOrder | None = None
    """The last one of the long; None where none has failed."""
    last_done_ms: int | None = None
    """When an order of the long last landed as it should."""
    wallet_usd: Decimal | None = None
    margin_usd: Decimal | None = None
    """Both venues' USDC while nothing is held."""
    wallet_name: str = ""
    margin_name: str = ""

    def leg(self, side: LegSide) -> LegReading | None:
        """The leg of this side."""
        return self.long if side is LegSide.LONG else self.short


class NeedReadings(Frozen):
    """Everything that the needs of an exit judge (`strategy.carry.needs`). None is "could not be read", and an unread need
    neither raises an alert nor ends one.
    """

    now_ms: int
    asset: str = ""
    agent_address: str = ""
    agent_approved: bool | None = None
    agent_until_ms: int | None = None
    """End of the signer's approval; None where it has none."""
    clock_ahead_ms: dict[str, int] = Field(default_factory=dict)
    """By venue, how far this host's clock is ahead of the venue's; below zero it is behind."""
    wallet: str = ""
    wallet_lamports: int | None = None
    position_tokens: Decimal | None = None
    """Tokens of the long; None where no position is held."""
    lender_tokens: Decimal | None = None
    """What the lender can pay out of them."""
    lender_covered: bool = False
    """Whether the lender has once shown enough."""
    perp_delisted: bool | None = None
    perp_halted: bool | None = None
    lending_active: bool | None = None
    account_mode: str | None = None
    account_mode_readable: bool = True
    account_mode_at_entry: str | None = None
    free_bytes: int | None = None
    wal_bytes: int | None = None
    close_tried: bool = False
    close_refused: str | None = None
    """Why a close that was built and judged as a trial would not be signed."""


class EntryReadings(Frozen):
    """Everything that the checks of an entry judge, read afresh once the plan was made."""

    size: PositionSize
    protocol: int
    solana_usdc: Decimal | None
    solana_gas_lamports: int | None
    hyperliquid_free_usdc: Decimal | None
    foreign_sol: Decimal | None = None
    """Exposure in SOL of a position on Hyperliquid that is not ours; None where none is seen."""
    asgard_sol_price_usd: Decimal | None
    hyperliquid_mark_usd: Decimal | None
    token_price_usd: Decimal | None = None
    """Asgard's, of one token of the long; SOL's own for SOL."""
    asgard_reference_usd: Decimal | None = None
    hyperliquid_reference_usd: Decimal | None = None
    token_reference_usd: Decimal | None = None
    """The same three prices as the plan was made with them."""
    long_entry_distance: Decimal | None = None
    short_entry_distance: Decimal | None = None
    """Liquidation distances at which the legs would start; 1 where nothing is borrowed."""
    funding_now_hourly: Decimal | None
    """Of the running hour, by its mean so far."""
    funding_today_hourly: Decimal | None
    """Mean of the last day's settled hours."""
    borrow_capacity_usd: Decimal | None
    market_max_leverage: Decimal | None
    priority_fee_lamports: int | None
    """For a whole transaction, before capping."""
    fee_spike: bool = False
    """A spike is remembered that has not ended yet."""
    long_error: str | None = None
    short_error: str | None = None
    """Why the leg failed in simulation."""
    long_answered: bool = True
    """The builder answered; where it did not, it would build no other offer either."""
    long_ran: bool = True
    short_ran: bool = True
    """Whether the leg was simulated at all."""
    needs: NeedReadings | None = None
    """What the exit of this position will need."""


class BreakerReadings(HealthReadings):
    """Everything that the breakers of the trade judge: the markets, and what is open."""

    running_since_ms: dict[str, int] = Field(default_factory=dict)
    """Running breaches of every position, by key."""
    funding_now_hourly: Decimal | None = None
    funding_today_hourly: Decimal | None = None
    long_venue_price_usd: Decimal | None = None
    short_venue_price_usd: Decimal | None = None
    token_prices_usd: dict[str, Decimal] = Field(default_factory=dict)
    """Market price of one token, by asset."""
    redemption_rates: dict[str, Decimal] = Field(default_factory=dict)
    """SOL per token, by asset."""
    priority_fee_lamports: int | None = None
    """That an opening would have to bid now, before capping."""
    open_positions: tuple[OpenExposure, ...] = ()
