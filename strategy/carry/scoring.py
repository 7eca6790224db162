"""Scores every (asset, protocol) candidate for the carry trade and says of each why it passes or fails.

Yearly figures are simple rates (APR) as fractions; income is positive. The sign of funding is kept:
positive pays our short (docs/deviations.md, row 1). Where a formula is not the one asked for: deviations 1, 2, 5, 14 and 17.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Self

from pydantic import Field, model_validator

from evenkeel.types import Frozen
from evenkeel.units import BPS, HOURS_PER_YEAR
from strategy.carry.funding import annual
from strategy.carry.limits import PROTOCOL_NAMES, StrategySettings
from strategy.decisions import Check
from strategy.wording import hourly, pct, usd

_RANK_STEP = Decimal("1e-9")
"""Rates closer than this are equal, so that the tie-break decides and not the last digit of a quote."""


class Candidate(Frozen):
    """What is known of one (asset, protocol) pair now. None means that it could not be read, and fails.

    `lend_apr` is the base lending rate *without* staking; `staking_apr` counts once, and is zero for SOL
    itself.
    """

    asset: str
    protocol: int = Field(ge=0, le=3)
    leverage: int = Field(ge=1)
    position_usd: Decimal = Field(gt=0)
    """Notional of one leg."""
    lend_apr: Decimal | None
    borrow_apr: Decimal | None
    """A cost, given as a positive rate."""
    staking_apr: Decimal | None = Decimal(0)
    funding_now_hourly: Decimal | None
    """Of the hour in progress, by its own mean so far: the venue's running rate, never one sample of the premium."""
    funding_today_hourly: Decimal | None
    """Mean of the last day's settled hours (`strategy.carry.funding.today_hourly`)."""
    funding_expected_hourly: Decimal | None
    """Mean of the settled hours (`strategy.carry.funding.expected_hourly`): what income is judged by."""
    funding_volatility_annual: Decimal | None
    borrow_capacity_usd: Decimal | None
    market_max_leverage: Decimal | None
    market_active: bool = True

    @model_validator(mode="after")
    def _staking_only_for_lsts(self) -> Self:
        if self.asset == "SOL" and self.staking_apr:
            raise ValueError(f"SOL on margin earns no staking yield, yet staking_apr is {self.staking_apr}")
        return self

    @property
    def borrow_usd(self) -> Decimal:
        """Debt of the long leg: position × (L − 1) / L."""
        return self.position_usd * (self.leverage - 1) / self.leverage


class Opportunity(Frozen):
    """A candidate with its figures and every check. Figures are None where an input was missing."""

    candidate: Candidate
    funding_apr: Decimal | None
    """The expected funding, × 8760."""
    net_carry_apr: Decimal | None
    """Of the long leg, on the long leg's equity."""
    total_apr: Decimal | None
    """On the capital of both legs."""
    round_trip_cost_bps: Decimal
    """Of one leg's notional."""
    expected_carry_usd: Decimal | None
    """Over `expected_hold_hours`, at the expected funding and the lending rates of now."""
    break_even_hours: Decimal | None
    """Time for the carry to pay the round trip; None when it never does."""
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What every check says, failures first."""
        ordered = sorted(self.checks, key=lambda check: check.ok)
        return tuple(f"{'pass' if c.ok else 'FAIL'} {c.name}: {c.reason}" for c in ordered)

    @property
    def protocol_name(self) -> str:
        return PROTOCOL_NAMES[self.candidate.protocol]


def net_carry_apr(
    leverage: Decimal | int, lend_apr: Decimal, borrow_apr: Decimal, staking_apr: Decimal = Decimal(0)
) -> Decimal:
    """Net carry of the long leg on its equity: `L × (lend + staking) − (L − 1) × borrow`. 3x, 5 %, 8 % → −1
    %.
    """
    return leverage * (lend_apr + staking_apr) - (leverage - 1) * borrow_apr


def total_apr(leverage: Decimal | int, funding_apr: Decimal, carry_apr: Decimal) -> Decimal:
    """On the capital of both legs, half of which backs each: `(L × funding + net carry) / 2`. 3x, 25 %, 23
    % → 49 %.
    """
    return (leverage * funding_apr + carry_apr) / 2


def carry_usd_per_hour(
    position_usd: Decimal,
    debt_usd: Decimal,
    funding_hourly: Decimal,
    lend_apr: Decimal,
    borrow_apr: Decimal,
    staking_apr: Decimal = Decimal(0),
) -> Decimal:
    """What a position earns in an hour in USD, funding and lending and staking less interest. Negative is a
    loss.
    """
    lending = position_usd * (lend_apr + staking_apr) - debt_usd * borrow_apr
    return position_usd * funding_hourly + lending / HOURS_PER_YEAR


def evaluate(candidate: Candidate, settings: StrategySettings) -> Opportunity:
    """Score one candidate. Nothing that is missing counts as good.

    Income is judged by the expected funding; that the short is paid in the running hour, and was paid over the last day,
    are further conditions.
    """
    c = candidate
    cost_usd = settings.costs.round_trip_usd(c.position_usd)
    funding = c.funding_expected_hourly
    carry_apr: Decimal | None = None
    whole_apr: Decimal | None = None
    per_hour: Decimal | None = None
    if c.lend_apr is not None and c.borrow_apr is not None and c.staking_apr is not None:
        carry_apr = net_carry_apr(c.leverage, c.lend_apr, c.borrow_apr, c.staking_apr)
        if funding is not None:
            whole_apr = total_apr(c.leverage, annual(funding), carry_apr)
            per_hour = carry_usd_per_hour(
                c.position_usd, c.borrow_usd, funding, c.lend_apr, c.borrow_apr, c.staking_apr
            )
    expected_usd = None if per_hour is None else per_hour * settings.expected_hold_hours
    checks = (
        _protocol(c, settings),
        positive_funding("current funding", c.funding_now_hourly),
        positive_funding("today's funding", c.funding_today_hourly),
        _rates_known(c),
        _total(whole_apr, settings),
        _volatility(c.funding_volatility_annual, settings),
        borrow_capacity(c.borrow_capacity_usd, c.borrow_usd, settings),
        _market_leverage(c),
        _pays_round_trip(expected_usd, cost_usd, per_hour, settings),
    )
    return Opportunity(
        candidate=c,
        funding_apr=None if funding is None else annual(funding),
        net_carry_apr=carry_apr,
        total_apr=whole_apr,
        round_trip_cost_bps=cost_usd / c.position_usd * BPS,
        expected_carry_usd=expected_usd,
        break_even_hours=cost_usd / per_hour if per_hour is not None and per_hour > 0 else None,
        checks=checks,
    )


def rank(candidates: Iterable[Candidate], settings: StrategySettings) -> list[Opportunity]:
    """Every candidate scored: those that pass first, then those on an open market, each by total APR, ties by
    protocol preference, then by asset name.
    """

    def order(o: Opportunity) -> tuple[bool, bool, Decimal, int, str]:
        apr = Decimal("-Infinity") if o.total_apr is None else o.total_apr.quantize(_RANK_STEP)
        preference = settings.protocol_preference
        place = (
            preference.index(o.candidate.protocol) if o.candidate.protocol in preference else len(preference)
        )
        closed = not o.candidate.market_active or o.candidate.protocol in settings.disabled_protocols
        return (not o.passed, closed, -apr, place, o.candidate.asset)

    return sorted((evaluate(c, settings) for c in candidates), key=order)


def positive_funding(name: str, rate_hourly: Decimal | None) -> Check:
    """The short must be paid: the rate must be above zero (docs/deviations.md, row 1)."""
    if rate_hourly is None:
        return Check(name=name, ok=False, reason=f"{name} is missing")
    if rate_hourly > 0:
        return Check(name=name, ok=True, reason=f"{name} {hourly(rate_hourly)} is above 0: the short is paid")
    verdict = "the short would pay" if rate_hourly < 0 else "the short would earn nothing"
    return Check(name=name, ok=False, reason=f"{name} {hourly(rate_hourly)} is not above 0: {verdict}")


def borrow_capacity(capacity_usd: Decimal | None, borrow_usd: Decimal, settings: StrategySettings) -> Check:
    """The protocol can lend our debt with 20 % to spare."""
    needed = borrow_usd * settings.capacity_margin
    if capacity_usd is None:
        return Check(name="borrow capacity", ok=False, reason="borrow capacity is missing")
    return Check(
        name="borrow capacity",
        ok=capacity_usd >= needed,
        reason=f"borrow capacity {usd(capacity_usd)} against {usd(needed)} "
        f"({usd(borrow_usd)} × {settings.capacity_margin})",
    )


def _protocol(c: Candidate, settings: StrategySettings) -> Check:
    name = PROTOCOL_NAMES[c.protocol]
    if c.protocol in settings.disabled_protocols:
        return Check(name="protocol", ok=False, reason=f"{name} is disabled in the settings")
    if not c.market_active:
        return Check(
            name="protocol", ok=False, reason=f"{name} reports its {c.asset}/USDC market as inactive"
        )
    return Check(name="protocol", ok=True, reason=f"{name} is enabled and active")


def _rates_known(c: Candidate) -> Check:
    rates = {"lending": c.lend_apr, "borrowing": c.borrow_apr, "staking": c.staking_apr}
    missing = [name for name, rate in rates.items() if rate is None]
    if missing:
        return Check(name="lending rates", ok=False, reason=f"missing rate: {', '.join(missing)}")
    known = ", ".join(f"{name} {pct(rate)}" for name, rate in rates.items() if rate is not None)
    return Check(name="lending rates", ok=True, reason=known)


def _total(whole_apr: Decimal | None, settings: StrategySettings) -> Check:
    if whole_apr is None:
        return Check(name="total APR", ok=False, reason="total APR is unknown: a rate is missing")
    return Check(
        name="total APR",
        ok=whole_apr > settings.min_total_apr,
        reason=f"total APR {pct(whole_apr)} on both legs' capital, needed > {pct(settings.min_total_apr)}",
    )


def _volatility(volatility: Decimal | None, settings: StrategySettings) -> Check:
    if volatility is None:
        return Check(
            name="funding volatility",
            ok=False,
            reason=f"unknown: fewer than {settings.min_funding_history_hours} h of funding history",
        )
    return Check(
        name="funding volatility",
        ok=volatility <= settings.max_volatility_annual,
        reason=f"funding volatility {pct(volatility)} a year, limit {pct(settings.max_volatility_annual)}",
    )


def _market_leverage(c: Candidate) -> Check:
    if c.market_max_leverage is None:
        return Check(name="market leverage", ok=False, reason="the market's maximum leverage is missing")
    return Check(
        name="market leverage",
        ok=c.leverage <= c.market_max_leverage,
        reason=f"leverage {c.leverage} against the market's maximum {c.market_max_leverage}",
    )


def _pays_round_trip(
    expected_usd: Decimal | None, cost_usd: Decimal, per_hour: Decimal | None, settings: StrategySettings
) -> Check:
    name = "pays the round trip"
    if expected_usd is None or per_hour is None:
        return Check(name=name, ok=False, reason="expected carry is unknown: a rate is missing")
    even = f"break-even after {cost_usd / per_hour:.0f} h" if per_hour > 0 else "never breaks even"
    return Check(
        name=name,
        ok=expected_usd > cost_usd,
        reason=f"expected carry {usd(expected_usd)} over {settings.expected_hold_hours} h against "
        f"{usd(cost_usd)} for the round trip; {even}",
    )
