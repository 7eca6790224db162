"""The numbers that decisions of the carry trade are held against: hard risk limits, and the settings of the strategy.

Where a default is not the one that was asked for, `docs/deviations.md` says why. Rates and shares are fractions
(0.005 = 0.5 %).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from pydantic import Field, field_validator, model_validator

from evenkeel.types import Frozen
from evenkeel.units import BPS
from strategy.limits import HealthLimits

D = Decimal
HIGHEST_LEVERAGE = 4
LOWEST_REBALANCE_TRIGGER = D("1.4")
STAKED_ASSETS = ("jitoSOL", "jupSOL", "INF")
"""Tokens of staked SOL that may be a long leg; each has a peg that is watched."""
PROTOCOL_NAMES = {0: "Marginfi", 1: "Kamino", 2: "Solend", 3: "Drift"}


_ORDERED = (
    ("agent_critical_hours", "agent_warning_hours"),
    ("clock_warning_ms", "clock_entry_ms"),
    ("max_fee_lamports", "max_fee_emergency_lamports"),
)
"""Limits of which the first may not be above the second."""


class LstLimits(Frozen):
    """Premium or discount of an LST's market price against its redemption value, as fractions."""

    warning_premium: Decimal = Field(default=D("0.03"), gt=0, le=D("0.5"))
    critical_premium: Decimal = Field(default=D("0.05"), gt=0, le=D("0.5"))
    warning_discount: Decimal = Field(default=D("0.01"), gt=0, le=D("0.5"))
    critical_discount: Decimal = Field(default=D("0.02"), gt=0, le=D("0.5"))

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warning_premium > self.critical_premium or self.warning_discount > self.critical_discount:
            raise ValueError("an LST warning limit lies above its critical limit: swap them")
        return self


class RiskLimits(HealthLimits):
    """Hard limits. Nothing in the strategy may loosen them."""

    min_position_usd: Decimal = Field(default=D(1000), ge=D(100), le=D(10_000_000))
    """Least notional of *one leg* (the *position size*), not the capital deployed."""
    max_position_usd: Decimal = Field(default=D(500_000), gt=0, le=D(100_000_000))
    """Most notional of one leg."""
    max_total_exposure_usd: Decimal = Field(default=D(2_000_000), gt=0, le=D(1_000_000_000))
    """Most notional of all open long legs together."""
    max_positions_per_asset: int = Field(default=1, ge=1, le=10)
    """Open positions per *long* asset (SOL, jitoSOL, jupSOL and INF count apart)."""
    allowed_long_assets: tuple[str, ...] = ("SOL", *STAKED_ASSETS)
    max_leverage: int = HIGHEST_LEVERAGE
    max_deployment_pct: Decimal = Field(default=D("0.50"), gt=0, le=1)

    max_price_deviation: Decimal = Field(default=D("0.005"), gt=0, le=D("0.05"))
    """Between venues before entry, between a price and its reference, and between the two fills."""
    exit_price_deviation: Decimal = Field(default=D("0.02"), gt=0, le=D("0.2"))
    max_slippage_entry_bps: int = Field(default=50, gt=0, le=1000)
    max_slippage_exit_bps: int = Field(default=100, gt=0, le=1000)
    """First bound of an order that closes or shrinks a leg in no hurry."""
    max_slippage_unwind_bps: int = Field(default=200, gt=0, le=1000)
    """First bound of an emergency: the unwind after the naked stop, a danger, `--emergency`, what recovery goes on with.
    10 bps would leave the leg open in the very market that set it off (docs/deviations.md, row 28). Also the widest of an
    ordinary exit.
    """
    max_slippage_last_bps: int = Field(default=500, gt=0, le=1000)
    """Widest bound of an emergency, reached as tries fail."""
    max_delta_drift: Decimal = Field(default=D("0.005"), gt=0, le=D("0.05"))
    fill_residual_tolerance: Decimal = Field(default=D("0.001"), gt=0, le=D("0.05"))
    stuck_after_refusals: int = Field(default=3, ge=1, le=10)
    """Refusals in a row, by the venue and not by the wire, after which a leg counts as unable to be closed or resized for
    now: what was done to the other leg is then levelled.
    """
    naked_stop_fall: Decimal = Field(default=D("0.01"), gt=0, lt=1)
    max_naked_s: int = Field(default=120, gt=0, le=3600)
    naked_reserve_s: int = Field(default=40, ge=0, le=3600)
    """Part of `max_naked_s` in which no new order of the short begins: an order of unknown outcome lives for 15 s, and
    closing the long takes about 20 s. The limit is when the book must be flat, not when giving up begins.
    """

    liquidation_floor: Decimal = Field(default=D("0.04"), gt=0, lt=1)
    """Liquidation distance below which a leg is closed whatever it was at entry."""
    liquidation_exit_share: Decimal = Field(default=D("0.25"), gt=0, lt=1)
    """Close below this share of the leg's distance at entry."""
    liquidation_reference_cap: Decimal = Field(default=D("0.30"), gt=0, le=D(5))
    """A leg that starts with more room than this (a short with idle margin beside it) is judged as if it
    had this much.
    """
    rebalance_band: Decimal = Field(default=D("0.3333"), gt=0, lt=1)
    """Resize when the distance has used up all but this share of the way from entry to the exit limit."""
    max_distance_gap: Decimal = Field(default=D("0.02"), gt=0, lt=1)
    """How far a venue's liquidation distance may differ from our own sums before a person is alerted."""
    breach_duration_s: int = Field(default=20, ge=0, le=3600)

    rebalance_leverage_trigger: Decimal = Field(default=D("2.0"), le=10)
    """Resize when a leg's leverage reaches this multiple of its target."""
    min_rebalance_usd: Decimal = Field(default=D(100), ge=0, le=D(1_000_000))
    """Smallest adjustment worth making for its cost alone; hard limits ignore it."""

    lst: LstLimits = LstLimits()
    stale_exit_after_s: int = Field(default=600, gt=0, le=86_400)
    outage_exit_after_s: int | None = Field(default=None, ge=0, le=604_800)
    """An outage that lasts so long closes the leg in reach; None: never, its leg is kept as the hedge
    (docs/deviations.md, row 26).
    """
    without_ledger_after_s: int = Field(default=60, ge=1, le=3600)
    """How long the ledger cannot be used before a watch closes a position in danger without it."""
    price_cooldown_s: int = Field(default=1800, ge=0, le=86_400)
    """No entry for so long after the venues' prices differed by more than `exit_price_deviation`."""

    max_fee_lamports: int = Field(default=10_000_000, gt=0, le=1_000_000_000)
    max_fee_emergency_lamports: int = Field(default=20_000_000, gt=0, le=1_000_000_000)
    resume_fee_lamports: int = Field(default=5_000_000, gt=0, le=1_000_000_000)
    min_gas_lamports: int = Field(default=50_000_000, ge=0, le=100_000_000_000)
    """SOL kept for fees and account rent before an entry (0.05 SOL)."""
    agent_warning_hours: int = Field(default=168, ge=0, le=8760)
    """Hours before the agent's key ends at which a person is warned."""
    agent_critical_hours: int = Field(default=24, ge=0, le=8760)
    """Hours before that at which a person is warned again, critically."""
    clock_warning_ms: int = Field(default=2_000, gt=0, le=60_000)
    """How far this host's clock may differ from a venue's before a person is warned."""
    clock_entry_ms: int = Field(default=5_000, gt=0, le=60_000)
    """The same before entries are refused. Exits are signed by the venue's time."""
    min_free_bytes: int = Field(default=200_000_000, ge=0, le=10**13)
    """Free space that is kept where the ledger is; ten times its write-ahead log where that is more."""
    balance_headroom_bps: int = Field(default=100, ge=0, le=10_000)
    """Free funds asked for on each venue beyond the leg's capital, in bps of the leg's notional: fees and
    slippage.
    """

    @field_validator("max_leverage")
    @classmethod
    def _leverage_limit(cls, value: int) -> int:
        return _whole_leverage("max_leverage", value, HIGHEST_LEVERAGE)

    @field_validator("rebalance_leverage_trigger")
    @classmethod
    def _trigger(cls, value: Decimal) -> Decimal:
        if value < LOWEST_REBALANCE_TRIGGER:
            raise ValueError(
                f"rebalance_leverage_trigger {value} is below {LOWEST_REBALANCE_TRIGGER}: a tight trigger "
                "rebalances without end and burns the account on costs; 2.0 is the studied value"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_position_usd > self.max_position_usd:
            raise ValueError(
                f"min_position_usd {self.min_position_usd} is above max_position_usd {self.max_position_usd}"
            )
        if self.max_position_usd > self.max_total_exposure_usd:
            raise ValueError(
                f"max_position_usd {self.max_position_usd} is above "
                f"max_total_exposure_usd {self.max_total_exposure_usd}"
            )
        if not self.max_slippage_exit_bps <= self.max_slippage_unwind_bps <= self.max_slippage_last_bps:
            raise ValueError(
                f"max_slippage_exit_bps {self.max_slippage_exit_bps}, max_slippage_unwind_bps "
                f"{self.max_slippage_unwind_bps} and max_slippage_last_bps {self.max_slippage_last_bps} must not fall in "
                "this order: an emergency may not be bound more tightly than an ordinary exit"
            )
        for smaller, larger in _ORDERED:
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(
                    f"{smaller} {getattr(self, smaller)} is above {larger} {getattr(self, larger)}: swap them"
                )
        if not self.allowed_long_assets:
            raise ValueError(
                f"allowed_long_assets is empty: name at least one of SOL, {', '.join(STAKED_ASSETS)}; "
                "`evenkeel pause` is what stops entries"
            )
        unknown = sorted(set(self.allowed_long_assets) - {"SOL", *STAKED_ASSETS})
        if unknown:
            raise ValueError(
                f"allowed_long_assets: {', '.join(unknown)} is not known; known are SOL, {', '.join(STAKED_ASSETS)}"
            )
        if self.naked_reserve_s >= self.max_naked_s:
            raise ValueError(
                f"naked_reserve_s {self.naked_reserve_s} must be below max_naked_s {self.max_naked_s}, or the short "
                "could never be tried"
            )
        if self.resume_fee_lamports > self.max_fee_lamports:
            raise ValueError("resume_fee_lamports is above max_fee_lamports: a pause would never end cleanly")
        if self.liquidation_floor >= self.liquidation_reference_cap:
            raise ValueError(
                f"liquidation_floor {self.liquidation_floor} must be below liquidation_reference_cap "
                f"{self.liquidation_reference_cap}, or every leg would be closed as soon as it is open"
            )
        if self.min_rebalance_usd > self.min_position_usd:
            raise ValueError(
                f"min_rebalance_usd {self.min_rebalance_usd} is above min_position_usd {self.min_position_usd}: a small "
                "position would never be levelled for its cost"
            )
        if self.fill_residual_tolerance > self.max_delta_drift:
            raise ValueError(
                f"fill_residual_tolerance {self.fill_residual_tolerance} is above max_delta_drift {self.max_delta_drift}: "
                "an entry would be called done that is levelled at once"
            )
        if self.max_price_deviation >= self.exit_price_deviation:
            raise ValueError(
                "max_price_deviation must be below exit_price_deviation, or an entry would exit at once"
            )
        return self

    def exit_slippage_bps(self, tries: int, *, emergency: bool) -> int:
        """Bound of the next order that closes a leg after `tries` that did not: half the first bound more for each."""
        first, last = (
            (self.max_slippage_unwind_bps, self.max_slippage_last_bps)
            if emergency
            else (self.max_slippage_exit_bps, self.max_slippage_unwind_bps)
        )
        return min(first + first * tries // 2, last)


class CostModel(Frozen):
    """Expected costs of the trade, in basis points of one leg's notional; gas in USD for the whole round
    trip.

    Defaults add up to 30 bps for a round trip, the figure that published studies of this very trade use:
    Asgard 15 bps at the open, Hyperliquid's base taker fee on the way in and out, and small-size slippage.
    The slippage *bounds* of orders are limits, not expectations, and are no part of it.
    """

    long_open_fee_bps: Decimal = Field(default=D(15), ge=0, le=D(1000))
    long_close_fee_bps: Decimal = Field(default=D(0), ge=0, le=D(1000))
    short_taker_fee_bps: Decimal = Field(default=D("4.5"), ge=0, le=D(1000))
    long_slippage_bps: Decimal = Field(default=D("1.75"), ge=0, le=D(1000))
    """Expected per swap."""
    short_slippage_bps: Decimal = Field(default=D("1.25"), ge=0, le=D(1000))
    """Expected per order."""
    gas_usd: Decimal = Field(default=D(2), ge=0, le=D(10_000))

    def opening_usd(self, position_usd: Decimal) -> Decimal:
        """Expected cost in USD of opening both legs of `position_usd` notional each."""
        bps = (
            self.long_open_fee_bps
            + self.long_slippage_bps
            + self.short_taker_fee_bps
            + self.short_slippage_bps
        )
        return position_usd * bps / BPS + self.gas_usd / 2

    def closing_usd(self, position_usd: Decimal) -> Decimal:
        """Expected cost in USD of closing both legs."""
        bps = (
            self.long_close_fee_bps
            + self.long_slippage_bps
            + self.short_taker_fee_bps
            + self.short_slippage_bps
        )
        return position_usd * bps / BPS + self.gas_usd / 2

    def round_trip_usd(self, position_usd: Decimal) -> Decimal:
        return self.opening_usd(position_usd) + self.closing_usd(position_usd)

    def short_order_usd(self, notional_usd: Decimal) -> Decimal:
        """Expected cost in USD of one perp order of this notional."""
        return notional_usd * (self.short_taker_fee_bps + self.short_slippage_bps) / BPS


class StrategySettings(Frozen):
    """How the carry trade is run, within the limits."""

    leverage: int = 3
    deployment_pct: Decimal = Field(default=D("0.10"), gt=0, le=1)
    funding_lookback_hours: int = Field(default=168, ge=24, le=8760)
    min_funding_history_hours: int = Field(default=24, ge=2, le=8760)
    max_volatility_annual: Decimal = Field(default=D("0.30"), gt=0, le=D(100))
    """Hourly standard deviation × 8760 (docs/deviations.md, row 5)."""
    expected_hold_hours: int = Field(default=720, gt=0, le=87_600)
    """Time over which the carry must pay the round trip (docs/deviations.md, row 17)."""
    expected_funding_hours: int = Field(default=168, ge=1, le=2160)
    """Hours over whose mean the funding is expected, by entry and exit alike (docs/deviations.md, row 4)."""
    exit_horizon_hours: int = Field(default=336, gt=0, le=8760)
    """Expected loss over this time must exceed the cost of closing and opening again before a negative carry closes."""
    reserve_pct: Decimal = Field(default=D("0.10"), ge=0, le=D("0.5"))
    """Of the money of each side, the share that a growth leaves idle beside the leg: a weak leg is mended from it first."""
    wallet_kept_usd: Decimal = Field(default=D(0), ge=0, le=D(1_000_000_000))
    """USDC of the wallet that is never used to mend a weak long or to grow."""
    grow_above: Decimal = Field(default=D("0.10"), gt=0, le=1)
    """Both legs grow once their money carries so much more than they hold, as a share of it."""
    transfer_above: Decimal = Field(default=D("0.10"), gt=0, le=1)
    """A transfer is proposed once the sides differ by so much of all the money of a position."""
    min_total_apr: Decimal = Field(default=D(0), ge=0, le=D(10))
    capacity_margin: Decimal = Field(default=D("1.2"), ge=1, le=D(100))
    protocol_preference: tuple[int, ...] = (0, 1, 2, 3)
    """Tie-break among equal carries: Marginfi, Kamino, Solend, Drift."""
    disabled_protocols: tuple[int, ...] = (3,)
    """Drift was exploited and frozen in 2026 (docs/deviations.md, row 14)."""
    costs: CostModel = CostModel()

    entry_attempts: int = Field(default=15, ge=1, le=100)
    entry_retry_interval_s: int = Field(default=2, ge=1, le=600)
    exit_attempts: int = Field(default=5, ge=1, le=100)
    exit_short_window_s: int = Field(default=60, ge=1, le=3600)
    poll_interval_s: int = Field(default=30, ge=1, le=3600)
    breach_poll_interval_s: int = Field(default=2, ge=1, le=600)

    @field_validator("leverage")
    @classmethod
    def _leverage(cls, value: int) -> int:
        return _whole_leverage("leverage", value, HIGHEST_LEVERAGE)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = set(self.protocol_preference + self.disabled_protocols) - set(PROTOCOL_NAMES)
        if unknown:
            raise ValueError(f"unknown lending protocol {sorted(unknown)}: known are {PROTOCOL_NAMES}")
        if len(set(self.protocol_preference)) < len(self.protocol_preference):
            raise ValueError(f"protocol_preference {list(self.protocol_preference)} names a protocol twice")
        if self.breach_poll_interval_s > self.poll_interval_s:
            raise ValueError(
                f"breach_poll_interval_s {self.breach_poll_interval_s} is above poll_interval_s {self.poll_interval_s}: "
                "a danger would be watched less closely than a calm position"
            )
        if self.min_funding_history_hours > self.funding_lookback_hours:
            raise ValueError(
                "min_funding_history_hours is above funding_lookback_hours: nothing could ever be judged"
            )
        return self


def _whole_leverage(name: str, value: int, limit: int) -> int:
    if not 1 <= value <= limit:
        raise ValueError(f"{name} {value} is outside 1 to {limit}: choose a whole number in that range")
    return value


class CarryLimits(Frozen):
    """What the rules of a watch and the checks of an entry are held against."""

    risk: RiskLimits = RiskLimits()
    strategy: StrategySettings = StrategySettings()
