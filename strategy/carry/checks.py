"""The checks that must pass before anything is sent, each a function of what was read. Missing fails."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from evenkeel.legs import LegSide
from evenkeel.units import BPS
from strategy.carry.limits import PROTOCOL_NAMES, CarryLimits, RiskLimits
from strategy.carry.liquidation import exit_distance, rebalance_distance
from strategy.carry.needs.listed import judge_needs
from strategy.carry.readings import EntryReadings
from strategy.carry.rules.price_deviation import price_deviation
from strategy.carry.scoring import borrow_capacity, positive_funding
from strategy.decisions import Check, Judged
from strategy.rules import rule
from strategy.wording import pct, usd


@rule("balances")
def check_balances(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """Each wallet holds its leg's capital with headroom for fees and slippage, Solana holds SOL for gas and rent, and
    Hyperliquid holds no SOL position that is not ours.
    """
    name, r, risk = "balances", readings, limits.risk
    if r.foreign_sol is not None:
        reason = f"Hyperliquid already holds {r.foreign_sol} SOL that is not ours: close or move it first"
        return Judged(Check(name=name, ok=False, reason=reason))
    needed = r.size.per_leg_usd + r.size.position_usd * risk.balance_headroom_bps / BPS
    faults = []
    for where, held in (("Solana", r.solana_usdc), ("Hyperliquid", r.hyperliquid_free_usdc)):
        if held is None:
            faults.append(f"{where} USDC balance is missing")
        elif held < needed:
            faults.append(f"{where} holds {usd(held)} of the {usd(needed)} needed")
    if r.solana_gas_lamports is None:
        faults.append("Solana SOL balance is missing")
    elif r.solana_gas_lamports < risk.min_gas_lamports:
        faults.append(
            f"Solana holds {r.solana_gas_lamports} lamports for gas of the {risk.min_gas_lamports} needed"
        )
    reason = "; ".join(faults) or f"both wallets hold the {usd(needed)} needed per leg, and SOL for gas"
    return Judged(Check(name=name, ok=not faults, reason=reason))


@rule("price consensus")
def check_price_consensus(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """The venues agree on the price of *SOL*; an LST's price is judged by its peg, not here."""
    return Judged(
        judge_price_consensus(readings.asgard_sol_price_usd, readings.hyperliquid_mark_usd, limits.risk)
    )


def judge_price_consensus(asgard: Decimal | None, mark: Decimal | None, limits: RiskLimits) -> Check:
    """Both venues' USD of one SOL, less than `max_price_deviation` apart."""
    name, limit = "price consensus", limits.max_price_deviation
    for where, price in (("Asgard", asgard), ("Hyperliquid", mark)):
        if price is None or price <= 0:
            return Check(name=name, ok=False, reason=f"{where} SOL price is missing")
    deviation = price_deviation(asgard, mark)
    assert asgard is not None and mark is not None and deviation is not None
    return Check(
        name=name,
        ok=deviation < limit,
        reason=f"Asgard {usd(asgard)} and Hyperliquid {usd(mark)} differ by "
        f"{pct(deviation, 3)}, limit below {pct(limit, 3)}",
    )


@rule("reference prices")
def check_reference_prices(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """No price has left the one that the plan was made with: what was decided on it is worth what it was."""
    r = readings
    prices = {
        "Asgard's SOL": (r.asgard_sol_price_usd, r.asgard_reference_usd),
        "Asgard's token": (r.token_price_usd, r.token_reference_usd),
        "Hyperliquid's SOL": (r.hyperliquid_mark_usd, r.hyperliquid_reference_usd),
    }
    return Judged(judge_reference(prices, limits.risk))


def judge_reference(prices: Mapping[str, tuple[Decimal | None, Decimal | None]], limits: RiskLimits) -> Check:
    """By name, each price now and in the plan, in USD: at most `max_price_deviation` apart, up or down."""
    faults, most = [], Decimal(0)
    for what, (now, reference) in prices.items():
        if not now or not reference or now <= 0 or reference <= 0:
            faults.append(f"{what} price is missing{'' if now else ' now'}")
            continue
        moved = now / reference - 1
        most = max(most, abs(moved))
        if abs(moved) > limits.max_price_deviation:
            word = "above" if moved > 0 else "below"
            faults.append(f"{what} at {usd(now)} is {pct(abs(moved), 3)} {word} the plan's {usd(reference)}")
    limit = f"limit {pct(limits.max_price_deviation, 3)}"
    reason = (
        f"{'; '.join(faults)}; {limit}" if faults else f"prices moved {pct(most, 3)} since the plan, {limit}"
    )
    return Check(name="reference prices", ok=not faults, reason=reason)


@rule("liquidation room")
def check_liquidation_room(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """Each leg starts further from liquidation than where it would be closed: else the watch would end it at once."""
    faults: list[str] = []
    rooms: list[str] = []
    for side, distance in (
        (LegSide.LONG, readings.long_entry_distance),
        (LegSide.SHORT, readings.short_entry_distance),
    ):
        if distance is None:
            faults.append(f"the {side} leg's liquidation distance is not known")
            continue
        closes = exit_distance(distance, limits.risk)
        resizes = rebalance_distance(distance, limits.risk)
        words = (
            f"the {side} leg would start {pct(distance)} from liquidation, is resized at {pct(resizes)} and closed at "
            f"{pct(closes)}"
        )
        (rooms if distance > closes else faults).append(words)
    reason = "; ".join(faults or rooms)
    if faults:
        reason += (
            f" (leverage {readings.size.leverage}): no room; choose a lower leverage or another protocol"
        )
    return Judged(Check(name="liquidation room", ok=not faults, reason=reason))


@rule("funding")
def check_funding(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """The short is paid in the running hour *and* has been over the last day (docs/deviations.md, rows 1 and 29)."""
    return Judged(judge_funding(readings.funding_now_hourly, readings.funding_today_hourly))


def judge_funding(now_hourly: Decimal | None, today_hourly: Decimal | None) -> Check:
    """Both are above zero: the running hour's rate by its mean so far, and the mean of the last day's settled hours."""
    both = (
        positive_funding("current funding", now_hourly),
        positive_funding("today's funding", today_hourly),
    )
    return Check(name="funding", ok=all(c.ok for c in both), reason="; ".join(c.reason for c in both))


@rule("protocol capacity")
def check_protocol_capacity(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """The chosen protocol is enabled, lends our debt × 1.2, and allows the leverage."""
    ok, reason = _capacity(readings, limits)
    return Judged(Check(name="protocol capacity", ok=ok, reason=reason))


def _capacity(readings: EntryReadings, limits: CarryLimits) -> tuple[bool, str]:
    protocol, size, most = readings.protocol, readings.size, readings.market_max_leverage
    title = PROTOCOL_NAMES.get(protocol)
    if title is None:
        return False, f"protocol {protocol} is unknown"
    if protocol in limits.strategy.disabled_protocols:
        return False, f"{title} is disabled in the settings"
    if most is None:
        return False, f"{title}: the market's maximum leverage is missing"
    if size.leverage > most:
        return False, f"{title}: leverage {size.leverage} is above the market's maximum {most}"
    capacity = borrow_capacity(readings.borrow_capacity_usd, size.borrow_usd, limits.strategy)
    return capacity.ok, f"{title}: {capacity.reason}"


@rule("fee market")
def check_fee_market(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """What a transaction must pay now, before capping, lies under the cap; after a spike, under half of it."""
    return Judged(judge_fee(readings.priority_fee_lamports, limits.risk, paused=readings.fee_spike))


def judge_fee(priority_fee_lamports: int | None, limits: RiskLimits, paused: bool = False) -> Check:
    """In lamports for the whole transaction (docs/deviations.md, row 11); `paused`: a spike is remembered."""
    limit = limits.resume_fee_lamports if paused else limits.max_fee_lamports
    if priority_fee_lamports is None:
        return Check(name="fee market", ok=False, reason="Solana priority fee is missing")
    return Check(
        name="fee market",
        ok=priority_fee_lamports <= limit,
        reason=f"Solana priority fee {priority_fee_lamports} lamports a transaction against at most {limit}"
        f"{' to resume after a pause' if paused else ''}",
    )


@rule("exit needs")
def check_exit_needs(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """What the exit will need is there, and lasts: none is entered that could not be left."""
    name = "exit needs"
    if readings.needs is None:
        return Judged(Check(name=name, ok=False, reason="what an exit needs was not read"))
    states = judge_needs(readings.needs, limits)
    faults = [f"{one.reason} ({one.name}): {one.advice}" for one in states if one.refuses_entry]
    reason = "; ".join(faults) or "what an exit needs is there"
    return Judged(Check(name=name, ok=not faults, reason=reason))


@rule("simulation")
def check_simulation(readings: EntryReadings, limits: CarryLimits) -> Judged[Check]:
    """Both legs were built and simulated, and neither failed. A simulation that did not run fails."""
    faults = []
    for leg, ran, error in (
        ("long", readings.long_ran, readings.long_error),
        ("short", readings.short_ran, readings.short_error),
    ):
        if not ran:
            faults.append(f"the {leg} leg was not simulated")
        if error is not None:
            faults.append(f"the {leg} leg failed in simulation: {error}")
    reason = "; ".join(faults) or "both legs simulate cleanly"
    return Judged(Check(name="simulation", ok=not faults, reason=reason))
