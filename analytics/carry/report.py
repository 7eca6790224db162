"""The account of one position that a person reads: result, earned and paid, trades, agreement with venues,
timeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import Field
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.agreement import Difference, agreement_line
from analytics.carry.attribution import Attribution, plain
from analytics.carry.equity import Drawdown, Naked
from analytics.carry.legs import LongEvent, ShortFill
from analytics.carry.life import LifeEvent
from analytics.carry.waiting import prices_before_fill, prices_before_swap
from analytics.carry.words import GROUPS, ITEM_MEANINGS, ITEM_NAMES, signed_usd
from evenkeel.legs import PositionStatus
from evenkeel.types import Frozen

TRADE_COLUMNS = ("quantity", "decided", "sent", "USD", "fee USD")
"""Of a trade: the price when its order was decided and sent, and the price that it got."""
NARROW_COLUMNS = ("quantity", "sent", "USD", "fee USD")
"""What of it a terminal has room for."""
SHOWN = 20
"""Rows of one list that a person is shown; `as_dict` always has all."""
YEARLY_FROM_DAYS = 30
"""Days from which a result is given as a rate of a year."""


class Trade(Frozen):
    """One fill or swap. `fee_usd` > 0 is a cost. `decided_usd` and `sent_usd` are the same price when its order was decided
    and sent, where known: between them lies the market's move, and from there to `price_usd` the slippage.
    """

    at_ms: int
    what: str
    qty: Decimal
    price_usd: Decimal
    fee_usd: Decimal
    decided_usd: Decimal | None = None
    sent_usd: Decimal | None = None


class Report(Frozen):
    """Everything the account of one position says. `facts` are further lines, name to value, shown as
    given."""

    position_id: str
    title: str
    status: PositionStatus
    opened_ms: int
    ended_ms: int
    attribution: Attribution
    exit_reason: str | None = None
    trades: list[Trade] = Field(default_factory=list)
    events: list[LifeEvent] = Field(default_factory=list)
    differences: list[Difference] = Field(default_factory=list)
    rows_compared: int = 0
    drawdown: Drawdown | None = None
    naked: Naked | None = None
    funding_apr: float | None = None
    moved_before_long_usd: Decimal | None = None
    moved_before_short_usd: Decimal | None = None
    """What SOL's move between decisions and fills gave or took: in the prices, not in slippage."""
    facts: dict[str, str] = Field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Residual within a cent everywhere, no row differs from the venues' ledgers, books consistent."""
        return self.attribution.agrees and not self.differences and not self.attribution.checks


def trades_of(long_events: Sequence[LongEvent], short_fills: Sequence[ShortFill], asset: str) -> list[Trade]:
    """Return swaps of the long leg (of `asset`) and fills of the short leg as one list in order of time."""
    trades = []
    for event in long_events:
        change = event.change
        if change.swap_token_qty == 0:
            continue
        verb = "buy" if change.tokens_after > change.tokens_before else "sell"
        decided, sent = prices_before_swap(event)
        trades.append(
            Trade(
                at_ms=event.at_ms,
                what=f"long {event.kind}: {verb} {asset}",
                qty=change.swap_token_qty,
                price_usd=change.swap_usdc_qty / change.swap_token_qty,
                fee_usd=change.protocol_fee_usd,
                decided_usd=decided,
                sent_usd=sent,
            )
        )
    for row in short_fills:
        fill = row.fill
        decided, sent = prices_before_fill(row)
        trades.append(
            Trade(
                at_ms=fill.time_ms,
                what=f"short: {fill.side} {fill.asset}",
                qty=fill.qty,
                price_usd=fill.price_usd,
                fee_usd=fill.fee_usd,
                decided_usd=decided,
                sent_usd=sent,
            )
        )
    return sorted(trades, key=lambda trade: trade.at_ms)


def moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, tz=UTC):%Y-%m-%d %H:%M:%S}"


def result_sentence(report: Report) -> str:
    """Return the result in one sentence. A yearly rate is given from `YEARLY_FROM_DAYS` on: what fewer days carried and
    cost says nothing of a year. Before that the carry stands against the costs, with the hours at its pace that pay them.
    """
    found = report.attribution
    verb = "Earned" if found.net_usd >= 0 else "Lost"
    so_far = " so far" if found.is_open else ""
    days = found.holding_hours / 24
    text = (
        f"{verb}{so_far} {abs(found.net_usd):,.2f} USD net on {found.capital_usd:,.2f} USD of capital "
        f"in {found.holding_hours:,.1f} hours ({days:,.1f} days)"
    )
    if days >= YEARLY_FROM_DAYS:
        if found.net_apr is not None:
            text += f", {found.net_apr * 100:+.1f} % a year (simple)"
        return f"{text}."
    return f"{text}. {carry_against_costs(found)}"


def carry_against_costs(found: Attribution) -> str:
    """Return what the carry earned, what trading cost, and after how many hours at this pace the one pays the other."""
    carry, costs = found.carry_usd, -found.costs_usd
    text = f"Carry {signed_usd(carry)} USD against costs of {costs:,.2f} USD"
    if costs <= 0:
        return f"Carry {signed_usd(carry)} USD, and no costs."
    if carry <= 0 or found.holding_hours <= 0:
        return f"{text}: at this pace it never pays them."
    return f"{text}: at this pace it pays them after {found.holding_hours * costs / carry:,.0f} hours."


def agreement_lines(report: Report) -> list[str]:
    """Return first whether books and venues agree, then where they do not: place by place, row by row."""
    found = report.attribution
    residual = f"{abs(found.residual_usd):.2f}"
    if report.agrees:
        lines = [f"Books and venues agree: residual {residual} USD."]
    else:
        where = (
            f"Hyperliquid {signed_usd(found.residual_hyperliquid_usd)}, "
            f"Solana {signed_usd(found.residual_solana_usd)}, gas {signed_usd(found.residual_gas_usd)}"
        )
        gap = signed_usd(found.residual_usd)
        lines = [f"Books and venues DIFFER: residual {gap} USD, venues less books ({where})."]
    if report.rows_compared or report.differences:
        lines.append(f"{agreement_line(report.differences, report.rows_compared)}.")
    details = [*(str(difference) for difference in report.differences), *found.checks]
    lines += [f"- {line}" for line in details[:SHOWN]]
    if len(details) > SHOWN:
        lines.append(f"- and {len(details) - SHOWN} more")
    return lines


def _fact_rows(report: Report) -> list[tuple[str, str]]:
    found = report.attribution
    rows = [
        ("position", f"{report.position_id}, {report.status}"),
        ("opened", f"{moment(report.opened_ms)} UTC"),
        ("now" if found.is_open else "closed", f"{moment(report.ended_ms)} UTC"),
    ]
    if report.exit_reason:
        rows.append(("exit because", report.exit_reason))
    rows.append(("earned / paid", f"{signed_usd(found.earned_usd)} / {signed_usd(found.paid_usd)} USD"))
    if report.funding_apr is not None:
        yearly = found.holding_hours >= YEARLY_FROM_DAYS * 24
        rate = (
            f"{report.funding_apr * 100:+.2f} % a year" if yearly else f"{report.funding_apr / 87.6:+.5f} %/h"
        )
        rows.append(("funding received", f"{rate} on the short's notional"))
    if report.drawdown is not None:
        fall = report.drawdown
        rows.append(("largest drawdown", f"{fall.usd:,.2f} USD ({fall.fraction * 100:.2f} % of equity)"))
    if report.naked is not None:
        bare = report.naked
        text = f"{bare.total_seconds:,.0f} s, longest {bare.longest_seconds:,.0f} s at a time"
        rows.append(("one leg uncovered", text))
    moved = {"long": report.moved_before_long_usd, "short": report.moved_before_short_usd}
    if known := [f"{leg} {signed_usd(usd)}" for leg, usd in moved.items() if usd is not None]:
        rows.append(("decision to fill", f"SOL moved {', '.join(known)} USD: in prices, not in slippage"))
    return rows + list(report.facts.items())


def _money_rows(found: Attribution) -> list[tuple[str, str, str, bool]]:
    """(name, signed USD, meaning, is a sum)."""
    rows: list[tuple[str, str, str, bool]] = []
    for group, names in GROUPS.items():
        total = sum((found.items[name] for name in names), Decimal(0))
        for name in names:
            rows.append((ITEM_NAMES[name], signed_usd(found.items[name]), ITEM_MEANINGS[name], False))
        rows.append((group, signed_usd(total), "", True))
    rows.append(("net result", signed_usd(found.net_usd), "", True))
    return rows


def render_rich(report: Report) -> RenderableType:
    """Return the report for a terminal of 80 columns and more."""
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, value in _fact_rows(report):
        facts.add_row(name, value)

    money = Table(title="Earned and paid", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    money.add_column("item", no_wrap=True)
    money.add_column("USD", justify="right", no_wrap=True)
    money.add_column("what it is", style="dim")
    for name, usd, meaning, is_sum in _money_rows(report.attribution):
        money.add_row(name, usd, meaning, style="bold" if is_sum else None, end_section=is_sum)

    parts: list[RenderableType] = [
        Text(report.title, style="bold"),
        Text(result_sentence(report)),
        Text(),
        facts,
        Text(),
        money,
    ]
    if report.trades:
        trades = Table(title="Trades", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        trades.add_column("time (UTC)", no_wrap=True)
        trades.add_column("what")
        for column in NARROW_COLUMNS:
            trades.add_column(column, justify="right", no_wrap=True)
        for trade in report.trades[:SHOWN]:
            trades.add_row(*_trade_cells(trade, NARROW_COLUMNS))
        parts.append(trades)
        if len(report.trades) > SHOWN:
            parts.append(Text(f"and {len(report.trades) - SHOWN} more trades"))
    first, *rest = agreement_lines(report)
    parts.append(Text(first, style="bold green" if report.agrees else "bold red"))
    parts += [Text(line) for line in rest]
    if report.events:
        parts += [Text(), Text("Timeline (UTC)", style="italic")]
        for event in report.events[:SHOWN]:
            style = "dark_orange" if event.tone == "trouble" else ""
            parts.append(Text(f"{moment(event.at_ms)}  {event.label}", style=style))
        if len(report.events) > SHOWN:
            parts.append(Text(f"and {len(report.events) - SHOWN} more"))
    return Group(*parts)


def _trade_cells(trade: Trade, columns: Sequence[str] = TRADE_COLUMNS) -> list[str]:
    def price(usd: Decimal | None) -> str:
        return "" if usd is None else f"{usd:,.3f}"

    cells = {
        "quantity": f"{trade.qty:,.4f}",
        "decided": price(trade.decided_usd),
        "sent": price(trade.sent_usd),
        "USD": price(trade.price_usd),
        "fee USD": price(trade.fee_usd),
    }
    return [moment(trade.at_ms), trade.what, *(cells[column] for column in columns)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def render_markdown(report: Report) -> str:
    """Return the report as markdown with tables, for an artifact."""
    lines = [f"# {report.title}", "", f"**{result_sentence(report)}**", ""]
    first, *rest = agreement_lines(report)
    lines += [f"**{first}**", *([""] if rest else []), *rest, ""]
    lines += ["| | |", "| --- | --- |", *(_row(name, value) for name, value in _fact_rows(report)), ""]
    lines += ["## Earned and paid", "", "| item | USD | what it is |", "| --- | ---: | --- |"]
    for name, usd, meaning, is_sum in _money_rows(report.attribution):
        lines.append(_row(f"**{name}**", f"**{usd}**", meaning) if is_sum else _row(name, usd, meaning))
    if report.trades:
        lines += ["", "## Trades", "", _row("time (UTC)", "what", *TRADE_COLUMNS)]
        lines += ["| --- | --- |" + " ---: |" * len(TRADE_COLUMNS)]
        lines += [_row(*_trade_cells(trade)) for trade in report.trades]
    if report.events:
        lines += ["", "## Timeline (UTC)", ""]
        lines += [f"- {moment(event.at_ms)} {event.label}" for event in report.events]
    return "\n".join(lines) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """Return the report as JSON-able values; money as decimal strings."""
    body = report.model_dump(mode="json", exclude={"attribution", "trades"})
    found = report.attribution
    for name in ("moved_before_long_usd", "moved_before_short_usd"):
        usd = getattr(report, name)
        body[name] = None if usd is None else plain(usd)
    body["result"] = result_sentence(report)
    body["agrees"] = report.agrees
    body["agreement"] = agreement_lines(report)
    body["attribution"] = found.as_strings()
    body["capital_usd"] = plain(found.capital_usd)
    body["holding_hours"] = plain(found.holding_hours)
    body["checks"] = list(found.checks)
    body["trades"] = [
        {
            "at_ms": trade.at_ms,
            "what": trade.what,
            "qty": f"{trade.qty:f}",
            "price_usd": plain(trade.price_usd),
            "fee_usd": plain(trade.fee_usd),
            "decided_usd": None if trade.decided_usd is None else plain(trade.decided_usd),
            "sent_usd": None if trade.sent_usd is None else plain(trade.sent_usd),
        }
        for trade in report.trades
    ]
    return body
