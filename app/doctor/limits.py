"""Whether the limits fit each other and the back-test: each line says what, its value, what is allowed and what to do.

The figures of the back-test are those of docs/research.md; a test compares them. Nothing here asks a venue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

from app.doctor.frame import Health, Installation, Verdict, check, ok
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from evenkeel.units import BPS, HOURS_PER_YEAR
from state.carry.models import Position
from strategy.carry.budget import EntryBudget
from strategy.carry.limits import CarryLimits, CostModel
from strategy.carry.liquidation import exit_distance, rebalance_distance
from strategy.wording import pct
from tasks.carry.mark import LIVE

GROUP = "limits"
LENDER_THRESHOLD = Decimal("0.78")
"""Loan-to-value at which a lender liquidates, as the back-test assumes it: the lower of SOL's and jitoSOL's. What a lender
really does is known once a position is held there.
"""
MAINTENANCE = Decimal("0.025")
"""Maintenance rate of SOL-PERP in its first tier."""
LEAST_ROOM = Decimal("0.01")
"""That a resize has between its own distance and the exit's: a price moves so much within a tick or two of a crash."""
CLOSING_S = 20
"""Closing the long takes about so long."""
WINDOW_HOURS, HORIZON_HOURS = (168, 336), (168, 720)
LEVERAGE, RESERVE = (2, 3), (Decimal("0.05"), Decimal("0.20"))
"""Where the back-test found a plateau, least and most."""


class Finding(Frozen):
    """One thing that does not fit."""

    what: str
    value: str
    allowed: str
    advice: str
    health: Health = Health.WARN

    @property
    def detail(self) -> str:
        return f"{self.what} is {self.value}, allowed is {self.allowed}"


def verdict(found: list[Finding], calm: str) -> Verdict:
    """All findings in one line, the worst deciding; `calm` where there is none."""
    if not found:
        return ok(calm)
    failed = any(one.health is Health.FAIL for one in found)
    return Verdict(
        health=Health.FAIL if failed else Health.WARN,
        detail="; ".join(one.detail for one in found),
        advice="; ".join(dict.fromkeys(one.advice for one in found)),
    )


def limits_in(settings: Settings) -> CarryLimits:
    return CarryLimits(risk=settings.limits, strategy=settings.strategy)


def expected_distances(leverage: int) -> dict[str, Decimal]:
    """The liquidation distance of either leg as it is opened; a long without debt has none."""
    per_x = 1 / Decimal(leverage)
    long = {"long": 1 - (1 - per_x) / LENDER_THRESHOLD} if leverage > 1 else {}
    return long | {"short": (1 + per_x) / (1 + MAINTENANCE) - 1}


def judge_distances(settings: Settings, held: dict[str, Decimal] | None = None) -> Iterator[Finding]:
    """The distances at entry, of what is held or as they will be at the set leverage, against those of exit and resize."""
    risk, leverage = settings.limits, settings.strategy.leverage
    whose = "at entry" if held else f"at {leverage}x"
    for side, at_entry in (held or expected_distances(leverage)).items():
        at_exit, at_resize = exit_distance(at_entry, risk), rebalance_distance(at_entry, risk)
        what = f"the {side} leg's liquidation distance {whose}"
        if at_entry <= at_exit:
            advice = "lower strategy.leverage, or limits.liquidation_floor: such an entry is closed at once"
            health = Health.FAIL if held else Health.WARN  # a lender's threshold is assumed before
            yield Finding(
                what=what, value=pct(at_entry), allowed=f"above the exit distance {pct(at_exit)}",
                advice=advice, health=health,
            )  # fmt: skip
        elif at_entry < 2 * at_exit:
            yield Finding(
                what=what, value=pct(at_entry), allowed=f"at least twice the exit distance, {pct(2 * at_exit)}",
                advice="lower strategy.leverage: an ordinary day's move resizes or closes such a position",
            )  # fmt: skip
        elif at_resize - at_exit < LEAST_ROOM:
            yield Finding(
                what=f"the {side} leg's room between resize ({pct(at_resize)}) and exit ({pct(at_exit)})",
                value=pct(at_resize - at_exit), allowed=f"at least {pct(LEAST_ROOM)}",
                advice="raise limits.rebalance_band: a resize must come before the exit",
            )  # fmt: skip


def judge_naked(settings: Settings) -> Iterator[Finding]:
    """The time in which a long may be naked against the tries in it and against what closing takes."""
    budget, order_s = EntryBudget.of(limits_in(settings)), settings.hyperliquid.order_life_s
    tries_s = (budget.short_attempts - 1) * budget.short_interval_s
    if tries_s > budget.hedge_within_s:
        yield Finding(
            what="what strategy.entry_attempts take at strategy.entry_retry_interval_s", value=f"{tries_s} s",
            allowed=f"at most {budget.hedge_within_s} s (limits.max_naked_s less naked_reserve_s)",
            advice="lower the number of tries or their interval: the last ones are never made",
        )  # fmt: skip
    if budget.naked_reserve_s < order_s + CLOSING_S:
        yield Finding(
            what="limits.naked_reserve_s", value=f"{budget.naked_reserve_s} s",
            allowed=f"at least {order_s + CLOSING_S:g} s: the life of an order (hyperliquid.order_life_s) and a close",
            advice="raise limits.naked_reserve_s, or a long could stay naked beyond limits.max_naked_s",
            health=Health.FAIL,
        )  # fmt: skip
    if settings.limits.naked_stop_fall <= settings.limits.max_price_deviation:
        yield Finding(
            what="limits.naked_stop_fall", value=pct(settings.limits.naked_stop_fall),
            allowed=f"above limits.max_price_deviation {pct(settings.limits.max_price_deviation)}",
            advice="raise limits.naked_stop_fall: a price that an entry accepts would unwind it",
        )  # fmt: skip


def judge_money(settings: Settings) -> Iterator[Finding]:
    """What lies idle against what is asked of it: headroom of an entry, transfers, fees of a way out."""
    strategy, risk = settings.strategy, settings.limits
    headroom = strategy.leverage * Decimal(risk.balance_headroom_bps) / BPS
    if strategy.reserve_pct < headroom:
        yield Finding(
            what="strategy.reserve_pct", value=pct(strategy.reserve_pct),
            allowed=f"at least {pct(headroom)}: limits.balance_headroom_bps at {strategy.leverage}x",
            advice="raise strategy.reserve_pct, or growth leaves less than an entry asks to be free",
        )  # fmt: skip
    if strategy.reserve_pct < strategy.transfer_above:
        yield Finding(
            what="strategy.reserve_pct", value=pct(strategy.reserve_pct),
            allowed=f"at least strategy.transfer_above {pct(strategy.transfer_above)}",
            advice="raise strategy.reserve_pct: the long's side could not give what a transfer asks of it",
        )  # fmt: skip
    needed = risk.max_fee_emergency_lamports + settings.safety.tip_cap_lamports
    if risk.min_gas_lamports < needed:
        yield Finding(
            what="limits.min_gas_lamports", value=f"{risk.min_gas_lamports}",
            allowed=f"at least {needed}: one emergency with its tip",
            advice="raise limits.min_gas_lamports, or lower limits.max_fee_emergency_lamports",
        )  # fmt: skip


def judge_costs(settings: Settings) -> Iterator[Finding]:
    """The round trip against the hours that must pay it, as a yearly carry on one leg's notional."""
    strategy = settings.strategy
    trip = strategy.costs.round_trip_usd(settings.limits.min_position_usd) / settings.limits.min_position_usd
    for name, hours, most, effect in (
        ("expected_hold_hours", strategy.expected_hold_hours, Decimal("0.15"), "hardly ever be entered"),
        ("exit_horizon_hours", strategy.exit_horizon_hours, Decimal("0.30"), "hardly ever be left"),
    ):
        yearly = trip * HOURS_PER_YEAR / hours
        if yearly > most:
            yield Finding(
                what=f"the carry that strategy.{name} {hours} asks for the smallest position",
                value=f"{pct(yearly)} a year", allowed=f"at most {pct(most)}",
                advice=f"raise strategy.{name} or limits.min_position_usd: a position would {effect}",
            )  # fmt: skip
    if strategy.exit_horizon_hours > strategy.expected_hold_hours:
        yield Finding(
            what="strategy.exit_horizon_hours", value=f"{strategy.exit_horizon_hours}",
            allowed=f"at most strategy.expected_hold_hours {strategy.expected_hold_hours}",
            advice="lower strategy.exit_horizon_hours: what was entered on a smaller gain would be left on a smaller loss",
        )  # fmt: skip


def judge_studied(settings: Settings) -> Iterator[Finding]:
    """The settings against those that the back-test was run with (docs/research.md)."""
    strategy, costs, studied = settings.strategy, settings.strategy.costs, CostModel()
    again = "or run `evenkeel backtest` with your settings"
    for name, value, (least, most), effect in (
        ("expected_funding_hours", strategy.expected_funding_hours, WINDOW_HOURS, "a shorter window churns"),
        ("exit_horizon_hours", strategy.exit_horizon_hours, HORIZON_HOURS, "a short horizon never leaves"),
        ("leverage", strategy.leverage, LEVERAGE, "more is rebalanced without end and earns less"),
        ("reserve_pct", strategy.reserve_pct, RESERVE, "a weak leg is mended from it first"),
    ):
        if not least <= value <= most:
            yield Finding(
                what=f"strategy.{name}", value=f"{value}", allowed=f"{least} to {most} by the back-test ({effect})",
                advice=f"set strategy.{name} within these, {again}",
            )  # fmt: skip
    one = Decimal(100_000)
    here, there = costs.round_trip_usd(one), studied.round_trip_usd(one)
    if here < there:
        yield Finding(
            what="a round trip by strategy.costs", value=f"{here / one * BPS:.1f} bps",
            allowed=f"at least the {there / one * BPS:.1f} bps of the back-test",
            advice=f"raise strategy.costs to what you really pay, {again}",
        )  # fmt: skip


@check(GROUP, "distances")
async def distances(installation: Installation) -> Verdict:
    """Distance at entry, resize and exit, at the set leverage and of each live position."""
    settings = installation.settings
    found = list(judge_distances(settings))
    for position in await asyncio.to_thread(_live, installation):
        at_entry = position.facts.get("entry_distance") or {}
        held = {side: Decimal(value) for side, value in at_entry.items() if value is not None}
        if held:
            found += judge_distances(settings, held)
    expected = ", ".join(
        f"{side} {pct(at)} (resize below {pct(rebalance_distance(at, settings.limits))}, exit below "
        f"{pct(exit_distance(at, settings.limits))})"
        for side, at in expected_distances(settings.strategy.leverage).items()
    )
    return verdict(found, f"at {settings.strategy.leverage}x: {expected}")


def _live(installation: Installation) -> list[Position]:
    return installation.ledger.carry.positions(LIVE) if installation.ledger is not None else []


@check(GROUP, "naked budget")
async def naked(installation: Installation) -> Verdict:
    budget = EntryBudget.of(limits_in(installation.settings))
    calm = f"the short has {budget.hedge_within_s} s, closing the long {budget.naked_reserve_s} s"
    return verdict(list(judge_naked(installation.settings)), calm)


@check(GROUP, "idle money")
async def money(installation: Installation) -> Verdict:
    strategy = installation.settings.strategy
    calm = f"a reserve of {pct(strategy.reserve_pct)}, a transfer above {pct(strategy.transfer_above)}"
    return verdict(list(judge_money(installation.settings)), calm)


@check(GROUP, "costs and hours")
async def hours(installation: Installation) -> Verdict:
    strategy = installation.settings.strategy
    calm = (
        f"the carry of {strategy.expected_hold_hours} h must pay a way in and out, the loss of "
        f"{strategy.exit_horizon_hours} h exceed it"
    )
    return verdict(list(judge_costs(installation.settings)), calm)


@check(GROUP, "as studied")
async def studied(installation: Installation) -> Verdict:
    strategy = installation.settings.strategy
    calm = (
        f"{strategy.leverage}x, a mean of {strategy.expected_funding_hours} h, a horizon of "
        f"{strategy.exit_horizon_hours} h and a reserve of {pct(strategy.reserve_pct)}, as in docs/research.md"
    )
    return verdict(list(judge_studied(installation.settings)), calm)
