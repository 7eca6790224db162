"""The six checks that must pass before anything is sent (spec 5.0), each a function of what was read.
Missing fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from evenkeel.types import Frozen
from strategy.carry.scoring import borrow_capacity, positive_funding
from strategy.carry.sizing import PositionSize
from strategy.decisions import Check
from strategy.limits import PROTOCOL_NAMES, RiskLimits, StrategySettings
from strategy.wording import pct, usd

CHECK_NAMES = ("balances", "price consensus", "funding", "protocol capacity", "fee market", "simulation")


class Preflight(Frozen):
    """The six verdicts together."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True when all six were judged and all six passed."""
        return {check.name for check in self.checks} == set(CHECK_NAMES) and all(c.ok for c in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it failed; empty when it passed."""
        judged = {check.name for check in self.checks}
        unjudged = [f"{name}: was not judged" for name in CHECK_NAMES if name not in judged]
        return (*(f"{c.name}: {c.reason}" for c in self.checks if not c.ok), *unjudged)


def summarise(checks: Iterable[Check]) -> Preflight:
    """Join the six checks, in any order."""
    return Preflight(checks=tuple(checks))


def check_balances(
    solana_usdc: Decimal | None,
    solana_gas_lamports: int | None,
    hyperliquid_free_usdc: Decimal | None,
    size: PositionSize,
    limits: RiskLimits,
) -> Check:
    """1. Each wallet holds its leg's capital with headroom for fees and slippage, and Solana holds SOL for
    gas and rent.
    """
    needed = size.per_leg_usd + size.position_usd * limits.balance_headroom_bps / 10_000
    faults = []
    for where, held in (("Solana", solana_usdc), ("Hyperliquid", hyperliquid_free_usdc)):
        if held is None:
            faults.append(f"{where} USDC balance is missing")
        elif held < needed:
            faults.append(f"{where} holds {usd(held)} of the {usd(needed)} needed")
    if solana_gas_lamports is None:
        faults.append("Solana SOL balance is missing")
    elif solana_gas_lamports < limits.min_gas_lamports:
        faults.append(
            f"Solana holds {solana_gas_lamports} lamports for gas of the {limits.min_gas_lamports} needed"
        )
    reason = "; ".join(faults) or f"both wallets hold the {usd(needed)} needed per leg, and SOL for gas"
    return Check(name="balances", ok=not faults, reason=reason)


def price_deviation(long_venue_price_usd: Decimal, short_venue_price_usd: Decimal) -> Decimal:
    """|long venue − short venue| / short venue, both prices of one SOL."""
    return abs(long_venue_price_usd - short_venue_price_usd) / short_venue_price_usd


def check_price_consensus(
    asgard_sol_price_usd: Decimal | None, hyperliquid_mark_usd: Decimal | None, limits: RiskLimits
) -> Check:
    """2. The venues agree on the price of *SOL*; an LST's price is judged by its peg, not here."""
    name = "price consensus"
    for where, price in (("Asgard", asgard_sol_price_usd), ("Hyperliquid", hyperliquid_mark_usd)):
        if price is None or price <= 0:
            return Check(name=name, ok=False, reason=f"{where} SOL price is missing")
    assert asgard_sol_price_usd is not None and hyperliquid_mark_usd is not None
    deviation = price_deviation(asgard_sol_price_usd, hyperliquid_mark_usd)
    return Check(
        name=name,
        ok=deviation < limits.max_price_deviation,
        reason=f"Asgard {usd(asgard_sol_price_usd)} and Hyperliquid {usd(hyperliquid_mark_usd)} differ by "
        f"{pct(deviation, 3)}, limit below {pct(limits.max_price_deviation, 3)}",
    )


def check_funding(now_hourly: Decimal | None, predicted_hourly: Decimal | None) -> Check:
    """3. The short is paid now *and* by the prediction (deviation 1)."""
    both = (
        positive_funding("current funding", now_hourly),
        positive_funding("predicted funding", predicted_hourly),
    )
    return Check(name="funding", ok=all(c.ok for c in both), reason="; ".join(c.reason for c in both))


def check_protocol_capacity(
    protocol: int,
    capacity_usd: Decimal | None,
    market_max_leverage: Decimal | None,
    size: PositionSize,
    settings: StrategySettings,
) -> Check:
    """4. The chosen protocol is enabled, lends our debt × 1.2, and allows the leverage."""
    name = "protocol capacity"
    title = PROTOCOL_NAMES.get(protocol)
    if title is None:
        return Check(name=name, ok=False, reason=f"protocol {protocol} is unknown")
    if protocol in settings.disabled_protocols:
        return Check(name=name, ok=False, reason=f"{title} is disabled in the settings")
    if market_max_leverage is None:
        return Check(name=name, ok=False, reason=f"{title}: the market's maximum leverage is missing")
    if size.leverage > market_max_leverage:
        reason = f"{title}: leverage {size.leverage} is above the market's maximum {market_max_leverage}"
        return Check(name=name, ok=False, reason=reason)
    capacity = borrow_capacity(capacity_usd, size.borrow_usd, settings)
    return Check(name=name, ok=capacity.ok, reason=f"{title}: {capacity.reason}")


def check_fee_market(priority_fee_lamports: int | None, limits: RiskLimits, paused: bool = False) -> Check:
    """5. What a transaction must pay now, before capping, lies under the cap; after a pause, under half of
    it (spec 8.4).

    In lamports for the whole transaction (deviation 11).
    """
    limit = limits.resume_fee_lamports if paused else limits.max_fee_lamports
    if priority_fee_lamports is None:
        return Check(name="fee market", ok=False, reason="Solana priority fee is missing")
    return Check(
        name="fee market",
        ok=priority_fee_lamports <= limit,
        reason=f"Solana priority fee {priority_fee_lamports} lamports a transaction against at most {limit}"
        f"{' to resume after a pause' if paused else ''}",
    )


def check_simulation(
    long_error: str | None, short_error: str | None, long_ran: bool, short_ran: bool
) -> Check:
    """6. Both legs were built and simulated, and neither failed. A simulation that did not run fails."""
    faults = []
    for leg, ran, error in (("long", long_ran, long_error), ("short", short_ran, short_error)):
        if not ran:
            faults.append(f"the {leg} leg was not simulated")
        if error is not None:
            faults.append(f"the {leg} leg failed in simulation: {error}")
    return Check(name="simulation", ok=not faults, reason="; ".join(faults) or "both legs simulate cleanly")
