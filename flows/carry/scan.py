"""Look at both markets and rank what could be entered, each candidate with the reason why it passes or fails."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from evenkeel.types import Frozen
from flows.carry.forms import AssetField, LeverageField, UsdField
from flows.forms import Form
from flows.running import desk_for_run
from strategy.carry.scoring import Opportunity
from tasks.artifacts import show_table
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.entering.choose import RequestedEntry, check_requested_entry, rank_offers
from tasks.carry.market import read_market, volatility_rank
from tasks.oddities import naming_oddities


class ScanRequest(Form):
    """What to rank."""

    asset: AssetField | None = Field(default=None, description="what the long leg holds; empty: all")
    leverage: LeverageField | None = Field(
        default=None, description="of both legs, a whole number; empty: strategy.leverage"
    )
    size_usd: UsdField | None = Field(
        default=None, description="notional of one leg in USD that costs are scored for; empty: 10,000"
    )


class ScanResult(Frozen):
    """Ranked opportunities, best first. Rates are yearly fractions on the capital of both legs."""

    at_ms: int
    funding_now_hourly: str | None
    funding_today_hourly: str | None
    funding_volatility_annual: str | None
    """Hourly standard deviation × 8760 (docs/deviations.md, row 5), of the hours that are scored."""
    funding_volatility_rank: str | None
    """Share of the last 90 days that was as calm, or calmer."""
    passed: int
    rows: list[dict[str, str]]


@naming_oddities
async def scan_markets(desk: CarryDesk, request: ScanRequest) -> ScanResult:
    """Read both venues, keep what was seen, score every offer."""
    requested = RequestedEntry(asset=request.asset, leverage=request.leverage, size_usd=request.size_usd)
    check_requested_entry(desk, requested)
    market = await read_market(desk)
    ranked = rank_offers(desk, market, requested)
    volatility = market.funding_volatility_annual
    rank = await volatility_rank(desk, volatility)
    return ScanResult(
        at_ms=market.at_ms,
        funding_now_hourly=None if market.funding_now_hourly is None else f"{market.funding_now_hourly:f}",
        funding_today_hourly=(
            None if market.funding_today_hourly is None else f"{market.funding_today_hourly:f}"
        ),
        funding_volatility_annual=None if volatility is None else f"{volatility:.4f}",
        funding_volatility_rank=None if rank is None else f"{rank:.4f}",
        passed=sum(1 for one in ranked if one.passed),
        rows=[row(one) for one in ranked],
    )


def row(one: Opportunity) -> dict[str, str]:
    """One line of the table: what it would earn, what it costs, and why it passes or fails."""
    failed = [check.reason for check in one.checks if not check.ok]
    return {
        "asset": one.candidate.asset,
        "protocol": one.protocol_name,
        "verdict": "pass" if one.passed else "refused",
        "total APR": _percent(one.total_apr),
        "funding APR": _percent(one.funding_apr),
        "net carry APR": _percent(one.net_carry_apr),
        "round trip": f"{one.round_trip_cost_bps:.1f} bps",
        "break-even": "never" if one.break_even_hours is None else f"{one.break_even_hours:.0f} h",
        "why": "; ".join(failed) if failed else "every check passes",
    }


def _percent(value: object) -> str:
    return "unknown" if value is None else f"{float(value) * 100:.2f} %"  # type: ignore[arg-type]


@flow(name="scan", flow_run_name="scan-{request.asset}")
async def scan(request: ScanRequest) -> ScanResult:
    """Rank what could be entered now."""
    async with desk_for_run(open_desk) as desk:
        result = await scan_markets(desk, request)
    await show_table("opportunities", result.rows, "What could be entered now, best first")
    return result
