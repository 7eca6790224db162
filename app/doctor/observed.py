"""What trading really cost by the ledger's own rows, against the cost model by which entries and exits are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal

from app.doctor.frame import Installation, Verdict, check, ok
from app.doctor.limits import GROUP, Finding, verdict
from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import Frozen
from evenkeel.units import BPS, DAY_MS, LAMPORTS_PER_SOL
from state.carry.models import LendingRow, Position
from state.ledger_models import FillRow
from strategy.carry.limits import CostModel

SINCE_MS = 90 * DAY_MS
TOLERANCE, LEAST = Decimal("1.25"), Decimal(1)
"""So many times the model, and so many bps or USD above it, is more than chance."""


class Observed(Frozen):
    """What each figure of the model really was, by its name, in its unit; figures of which nothing is booked are absent."""

    figures: dict[str, Decimal]


class Sum:
    """A cost over what it was paid for."""

    def __init__(self) -> None:
        self.cost, self.paid_for = Decimal(0), Decimal(0)

    def add(self, cost_usd: Decimal, notional_usd: Decimal) -> None:
        if notional_usd > 0:
            self.cost += cost_usd
            self.paid_for += notional_usd

    @property
    def bps(self) -> Decimal | None:
        return self.cost / self.paid_for * BPS if self.paid_for else None


IN_BPS = (
    "long_open_fee_bps",
    "long_close_fee_bps",
    "long_slippage_bps",
    "short_taker_fee_bps",
    "short_slippage_bps",
)
GAS = "gas_usd"


def observe(books: Iterable[tuple[Position, list[FillRow], list[LendingRow]]]) -> Observed:
    """Fees of both legs, what their opening lost against the reference price of the entry (the long's for SOL alone, whose
    price it is), weighted by what was traded; gas and tips of opening and closing, as a mean of the positions that ended.
    """
    sums = {name: Sum() for name in IN_BPS}
    gas: list[Decimal] = []
    for position, fills, changes in books:
        _add_short(sums, position, fills)
        _add_long(sums, position, changes)
        if position.closed_ms is not None and position.ref_long_price_usd and changes:
            both = [one for one in changes if one.kind is not IntentKind.RESIZE]
            lamports = sum(one.gas_lamports + one.tip_lamports for one in both)
            gas.append(lamports * position.ref_long_price_usd / LAMPORTS_PER_SOL)
    figures = {name: value for name, one in sums.items() if (value := one.bps) is not None}
    return Observed(figures=figures | ({GAS: sum(gas, Decimal(0)) / len(gas)} if gas else {}))


def _add_short(sums: dict[str, Sum], position: Position, fills: list[FillRow]) -> None:
    """Executions that no other row takes back."""
    undone = {row.reversal_of for row in fills if row.reversal_of is not None}
    ref, opened_ms = position.ref_short_price_usd, position.opened_ms
    for row in fills:
        if row.part != LegSide.SHORT or row.reversal_of is not None or row.fill_id in undone:
            continue
        sums["short_taker_fee_bps"].add(row.fee_usd, row.qty * row.price_usd)
        is_of_the_entry = row.side == "sell" and opened_ms is not None and row.time_ms <= opened_ms
        if ref is not None and is_of_the_entry:
            sums["short_slippage_bps"].add((ref - row.price_usd) * row.qty, ref * row.qty)


def _add_long(sums: dict[str, Sum], position: Position, changes: list[LendingRow]) -> None:
    ref = position.ref_long_price_usd
    for change in changes:
        buys = change.tokens_after > change.tokens_before
        name = "long_open_fee_bps" if buys else "long_close_fee_bps"
        sums[name].add(change.protocol_fee_usd, abs(change.swap_usdc_qty))
        tokens = abs(change.swap_token_qty)
        if change.kind is IntentKind.OPEN and position.asset == "SOL" and ref is not None:
            sums["long_slippage_bps"].add(abs(change.swap_usdc_qty) - ref * tokens, ref * tokens)


def judge_observed(observed: Observed, costs: CostModel) -> list[Finding]:
    """Each figure that was clearly above the model's."""
    found = []
    for name, seen in sorted(observed.figures.items()):
        assumed, unit = getattr(costs, name), "USD" if name == GAS else "bps"
        most = max(assumed * TOLERANCE, assumed + LEAST)
        if seen > most:
            finding = Finding(
                what=f"{name} by our own fills",
                value=f"{seen:.2f} {unit}",
                allowed=f"at most {most:.2f} {unit} (strategy.costs has {assumed})",
                advice=f"set strategy.costs.{name} to {seen:.1f}: entries and exits are judged by it",
            )
            found.append(finding)
    return found


@check(GROUP, "observed costs")
async def observed_costs(installation: Installation) -> Verdict:
    """The last 90 days of the ledger."""
    since_ms = installation.clock.now_ms() - SINCE_MS
    store = installation.store

    def read() -> Observed:
        return observe(
            (
                position,
                store.fills_of(CARRY, position.position_id),
                store.carry.lending_changes(position.position_id),
            )
            for position in store.carry.positions()
            if position.created_ms >= since_ms
        )

    seen = await asyncio.to_thread(read)
    if not seen.figures:
        return ok("nothing was traded in the last 90 days: the cost model stands alone")
    words = ", ".join(f"{name} {value:.2f}" for name, value in sorted(seen.figures.items()))
    return verdict(judge_observed(seen, installation.settings.strategy.costs), f"by our own fills: {words}")
