"""Look at both markets and rank what could be entered, each candidate with the reason why it passes or fails."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

from prefect import flow
from pydantic import Field

from evenkeel.errors import UNREAD
from evenkeel.types import Frozen
from flows.carry.forms import AssetField, LeverageField
from flows.forms import Form, NumberField
from flows.running import desk_for_run
from strategy.carry.scoring import Opportunity
from tasks.artifacts import show_table
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.entering.choose import (
    RequestedEntry,
    check_requested_entry,
    rank_offers,
    read_means,
    size_for,
)
from tasks.carry.entering.clearing import would_refuse
from tasks.carry.mark import LAST_SCAN
from tasks.carry.market import read_market, volatility_rank
from tasks.oddities import naming_oddities
from venues.asgard.mints import LONG_ASSETS

PASS, WOULD_BE_REFUSED = "pass", "would be refused"


class ScanRequest(Form):
    """What to rank."""

    asset: AssetField | None = Field(default=None, description="what the long leg holds; empty: all")
    leverage: LeverageField | None = Field(
        default=None, description="of both legs, a whole number; empty: strategy.leverage"
    )
    size_usd: NumberField | None = Field(
        default=None,
        description="notional of one leg in USD; empty: by strategy.deployment_pct of the balances, else 10,000",
    )
    account: str | None = Field(
        default=None, description="of a fleet, the account whose balances count; empty: settings.account"
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
    """Offers that pass, and would not be refused."""
    refused_now: tuple[str, ...]
    """Why an entry of any offer would be refused now: pauses, breakers, the gap between both venues' prices."""
    rows: list[dict[str, Any]]
    """See `row`: numbers have their unit in the key."""


@naming_oddities
async def scan_markets(desk: CarryDesk, request: ScanRequest) -> ScanResult:
    """Read both venues, keep what was seen and what came of it, score every offer."""
    requested = RequestedEntry(asset=request.asset, leverage=request.leverage, size_usd=request.size_usd)
    check_requested_entry(desk, requested)
    market = await read_market(desk)
    refused = await would_refuse(desk, market)
    ranked = rank_offers(desk, market, requested, await _sizes_usd(desk, requested))
    rows = [row(one, (*refused[None], *refused.get(one.candidate.asset, ()))) for one in ranked]
    volatility = market.funding_volatility_annual
    rank = await volatility_rank(desk, volatility)
    result = ScanResult(
        at_ms=market.at_ms,
        funding_now_hourly=None if market.funding_now_hourly is None else f"{market.funding_now_hourly:f}",
        funding_today_hourly=(
            None if market.funding_today_hourly is None else f"{market.funding_today_hourly:f}"
        ),
        funding_volatility_annual=None if volatility is None else f"{volatility:.4f}",
        funding_volatility_rank=None if rank is None else f"{rank:.4f}",
        passed=sum(1 for one in rows if one["verdict"] == PASS),
        refused_now=refused[None],
        rows=rows,
    )
    kept = {"asked": request.model_dump(mode="json"), "found": result.model_dump(mode="json")}
    desk.store.whole.move_checkpoint(LAST_SCAN, market.at_ms, kept)
    return result


async def _sizes_usd(desk: CarryDesk, requested: RequestedEntry) -> dict[str, Decimal]:
    """What an entry of now would put into each asset, USD of one leg; empty where the balances cannot be read."""
    if requested.size_usd is not None:
        return {}
    try:
        means = await read_means(desk)
    except UNREAD:
        return {}
    sized = {asset: size_for(desk, requested, means, asset).size for asset in LONG_ASSETS}
    return {asset: one.position_usd for asset, one in sized.items() if one is not None}


def row(one: Opportunity, refused: tuple[str, ...] = ()) -> dict[str, Any]:
    """One line of the table: what it would earn and cost at its size, and why it passes or fails. `refused`: why an entry
    of now would be refused though the offer passes. A rate that is not known, and a break-even that never comes, are None.
    """
    failed = [check.reason for check in one.checks if not check.ok]
    why = failed or refused
    verdict = "refused" if failed else WOULD_BE_REFUSED if refused else PASS
    return {
        "asset": one.candidate.asset,
        "protocol": one.protocol_name,
        "verdict": verdict,
        "size_usd": _rounded(one.candidate.position_usd),
        "total_apr_pct": _percent(one.total_apr),
        "funding_apr_pct": _percent(one.funding_apr),
        "net_carry_apr_pct": _percent(one.net_carry_apr),
        "round_trip_bps": _rounded(one.round_trip_cost_bps),
        "break_even_hours": _rounded(one.break_even_hours),
        "why": "; ".join(why) if why else "every check passes",
    }


def _percent(value: Decimal | None) -> float | None:
    return None if value is None else _rounded(value * 100)


def _rounded(value: Decimal | None) -> float | None:
    return None if value is None else round(float(value), 2)


@flow(name="scan", flow_run_name="scan-{request.asset}")
async def scan(request: ScanRequest) -> ScanResult:
    """Rank what could be entered now."""
    async with desk_for_run(partial(open_desk, account=request.account)) as desk:
        result = await scan_markets(desk, request)
    await show_table("opportunities", result.rows, "What could be entered now, best first")
    return result
