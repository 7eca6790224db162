"""How the command line shows its answers to a person; `--json` shows the same values to a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from evenkeel.errors import OperatorError
from evenkeel.units import HOURS_PER_YEAR

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

out = Console()
NOT_CHECKED = "not checked: "
"""How the detail of a check begins that could not be made, before the reason."""


JsonFlag = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


class Emit(Protocol):
    def __call__(self, as_json: bool, body: dict[str, Any], human: Callable[[], None]) -> None: ...


class Fail(Protocol):
    def __call__(self, text: str, code: int = 2) -> Any: ...


class AsFlow(Protocol):
    async def __call__(
        self, settings: Settings, name: str, call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any: ...


def decimal_of(name: str, text: str) -> Decimal:
    """The number that an option says. Raises OperatorError for what is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise OperatorError(f"{name} {text!r} is not a number; give a plain decimal such as 3 or 2500")
    return value


def seconds_of(name: str, value: float) -> float:
    """The time that an option says. Raises OperatorError for none, one before now, and one without end."""
    if not 0 < value < math.inf:
        raise OperatorError(f"{name} {value} must be above 0 seconds, and a number that ends")
    return value


def show_rows(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    lines: bool = True,
    console: Console | None = None,
) -> None:
    """Rows as a table in which nothing is cut: what has no gap (an id, an address, a hash) stands whole in one line. Where the
    terminal is too narrow for that, each row is a paragraph of its own. `lines`: between the columns; they take room.
    """
    shown, cells = console or out, [[str(one) for one in row] for row in rows]
    needs = [
        max(len(part) for text in (*name.split(), *column, "-") for part in _parts(text))
        for name, *column in zip(columns, *cells, strict=True)
    ]
    room = shown.width - (3 * len(needs) + 1 if lines else 2 * len(needs) - 2)
    if cells and sum(needs) > room:
        if title is not None:
            shown.print(title, markup=False)
        for row in cells:
            named = (f"{name} {text}" for name, text in zip(columns, row, strict=True) if text)
            shown.print("; ".join(named), markup=False, highlight=False)
        return
    if sum(headed := [max(need, len(name)) for name, need in zip(columns, needs, strict=True)]) <= room:
        needs = headed
    whole = [all(len(_parts(text)) < 2 for text in column) for column in zip(*cells, strict=True)]
    made = [
        Column(name, overflow="fold", width=need if one else None)
        for name, need, one in zip(columns, needs, whole or [False] * len(needs), strict=True)
    ]
    table = Table(*made, title=title, title_justify="left", **({} if lines else PLAIN))
    for row in cells:
        table.add_row(*map(Text, row))
    shown.print(table)


def _parts(text: str) -> list[str]:
    """What is not taken apart: what is short, else each word."""
    return [text] if 0 < len(text) <= SHORT else text.split()


SHORT = 12
"""Characters: a figure with its unit."""
PLAIN: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "show_edge": False, "padding": (0, 1, 0, 0)}
"""Of a table with many narrow columns."""


def show_scan(result: dict[str, Any]) -> None:
    """Ranked offers as a table, under the funding rate of now."""
    rate = result["funding_now_hourly"]
    now = "unknown" if rate is None else f"{Decimal(rate) * HOURS_PER_YEAR * 100:.2f} %"
    out.print(f"SOL-PERP funding {now} a year now; positive pays the short")
    if (volatility := result["funding_volatility_annual"]) is not None:
        rank = result["funding_volatility_rank"]
        calmer = "" if rank is None else f", as calm or calmer {Decimal(rank):.0%} of the last 90 days"
        out.print(f"funding volatility {Decimal(volatility):.0%} a year{calmer}")
    for reason in result["refused_now"]:
        out.print(f"an entry would be refused now: {reason}", style="yellow", markup=False)
    title = f"{result['passed']} of {len(result['rows'])} could be entered"
    cells = [
        [*offer_cells(row), f"{row['size_usd']:,.0f}", f"{row['round_trip_bps']:.1f}"]
        for row in result["rows"]
    ]
    show_rows((*OFFER_COLUMNS, "size USD", "trip bps"), cells, title=title, lines=False)
    whose: dict[str, list[str]] = {}
    for row in result["rows"]:
        if row["verdict"] != "pass":
            whose.setdefault(row["why"], []).append(f"{row['asset']} {row['protocol']}")
    for why, offers in whose.items():
        out.print(f"refused: {', '.join(offers)}: {why}", markup=False, soft_wrap=True)


OFFER_COLUMNS = ("asset", "protocol", "verdict", "total APR", "fund. APR", "net carry APR", "pays after")


def offer_cells(row: dict[str, Any]) -> list[str]:
    """Return what a person reads of an offer under `OFFER_COLUMNS`."""

    def percent(name: str) -> str:
        return "unknown" if row[name] is None else f"{row[name]:.2f} %"

    hours = row["break_even_hours"]
    rates = [percent(name) for name in ("total_apr_pct", "funding_apr_pct", "net_carry_apr_pct")]
    return [
        row["asset"],
        row["protocol"],
        row["verdict"],
        *rates,
        "never" if hours is None else f"{hours:.0f} h",
    ]


def show_recovery(result: dict[str, Any]) -> None:
    """What was taken up, then the comparison with the venues."""
    for position, status in result["positions"].items():
        out.print(f"{position}: {status}")
    if not result["positions"]:
        out.print("nothing was interrupted")
    for position in result["not_watched"]:
        out.print(
            f"{position}: NOT WATCHED; run `evenkeel monitor {position}`",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    show_comparison(result)
    if "accounts" in result:
        found = result["accounts"]
        left = "unknown" if found["unfinished_intents"] is None else found["unfinished_intents"]
        out.print(f"managed accounts: {found['settled']} orders settled, {left} under way", markup=False)
        for name, fault in found["faults"].items():
            out.print(f"  {name}: {fault}", style="yellow", markup=False, soft_wrap=True)
    if "hedging" in result:
        found = result["hedging"]
        left = "unknown" if found["unfinished_intents"] is None else found["unfinished_intents"]
        out.print(f"hedging: {left} orders under way", markup=False)
        for name, fault in found["faults"].items():
            out.print(f"  {name}: {fault}", style="yellow", markup=False, soft_wrap=True)


def show_status(result: dict[str, Any]) -> None:
    """Positions, unfinished intents, the comparison, alerts and pauses."""
    show_positions(result["positions"])
    for row in result["positions"]:
        _show_last_tick(row)
    for intent in result["unfinished_intents"]:
        out.print(f"unfinished: {intent['intent_id']} is {intent['state']}; run `evenkeel recover`")
    show_comparison(result)
    for alert in result["alerts"]:
        out.print(f"{alert['severity']}: {alert_line(alert)}", style="yellow", markup=False)
    for pause in result["pauses"]:
        until = f" until {pause['until']}" if pause["until"] else ""
        out.print(f"paused ({pause['scope']}){until}: {pause['reason']}", style="yellow", markup=False)
    show_breakers(result["breakers"])
    if "accounts" in result:
        _show_accounts(result["accounts"])
    if "hedging" in result:
        _show_hedging(result["hedging"])


def _show_last_tick(row: dict[str, Any]) -> None:
    """Two lines: whether it is watched, and how it stood at the last look."""
    if row["seconds_since_tick"] is None:
        return
    show_watched([row])

    def shown(name: str, form: str) -> str:
        return "unknown" if row[name] is None else format(row[name], form)

    out.print(
        f"  room to liquidation: long {shown('long_liquidation_distance_pct', '.2f')} %, short "
        f"{shown('short_liquidation_distance_pct', '.2f')} %; SOL {shown('long_price_usd', '.3f')} and "
        f"{shown('short_price_usd', '.3f')} USD; delta {shown('delta_sol', '+.4f')} SOL; funding "
        f"{shown('funding_pct_per_hour', '+.5f')} %/h; equity {shown('equity_usd', ',.2f')} USD",
        markup=False,
        soft_wrap=True,
    )


def _show_accounts(found: dict[str, Any]) -> None:
    """A line on managed accounts."""

    def counted(states: dict[str, int]) -> str:
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"

    last = "never" if found["seconds_since_tick"] is None else f"{found['seconds_since_tick']:.0f} s ago"
    text = (
        f"managed accounts: deployments {counted(found['deployments'])}; trades {counted(found['trades'])}; "
        f"{found['to_collect_usdc']} USDC to collect; {found['unfinished_intents']} orders under way; last look {last}"
    )
    out.print(text, markup=False, soft_wrap=True)


def _show_hedging(found: dict[str, Any]) -> None:
    """A line on hedging, and one for each symbol that waits."""
    shares = ", ".join(f"{shares} {symbol}" for symbol, shares in found["open_shares"].items()) or "nothing"
    last = "never" if found["seconds_since_pass"] is None else f"{found['seconds_since_pass']:.0f} s ago"
    text = f"hedging: open {shares}; {found['unfinished_intents']} orders under way; last good pass {last}"
    out.print(text, markup=False, soft_wrap=True)
    for symbol, why in found["blocked"].items():
        out.print(f"  {symbol} waits: {why}", style="yellow", markup=False, soft_wrap=True)


def alert_line(alert: dict[str, Any]) -> str:
    """Kind and subject as `evenkeel ack` takes them, then the text."""
    of = f" ({alert['subject']})" if alert["subject"] else ""
    return f"{alert['kind']}{of}: {alert['text']}"


def show_breakers(rows: list[dict[str, Any]]) -> None:
    """Every circuit breaker: those that refuse entries with their reason and what to do, the others by name."""
    for one in rows:
        if one["tripped"]:
            until = f" until {one['until']}" if one["until"] else ""
            text = (
                f"breaker {one['name']} tripped since {one['since']}{until}: {one['reason']}; {one['advice']}"
            )
            out.print(text, style="yellow", markup=False)
    out.print(f"breakers closed: {', '.join(one['name'] for one in rows if not one['tripped']) or 'none'}")


def show_comparison(result: dict[str, Any]) -> None:
    """Legs that books and venues do not share, and venues that could not be asked."""
    for leg in result["unowned_legs"]:
        out.print(
            f"unowned leg: {leg['key']}: books {leg['books'] or 'nothing'}, venue {leg['venue'] or 'nothing'}"
        )
    for venue, why in result["unreadable"].items():
        out.print(f"{venue} cannot be read: {why}", style="yellow")
    if not result["unowned_legs"] and not result["unreadable"]:
        out.print("books and venues hold the same legs")


def show_positions(rows: list[dict[str, Any]]) -> None:
    """One row a position, and below them why each has ended."""
    if not rows:
        out.print("no positions")
        return
    columns = ("position", "status", "asset", "lev.", "size USD", "exp. APR", "opened")
    show_rows(columns, [_position_cells(row) for row in rows], lines=False)
    for row in rows:
        if row["close_reason"]:
            out.print(f"{row['position_id']} ended: {row['close_reason']}", markup=False, soft_wrap=True)


def _position_cells(row: dict[str, Any]) -> list[str]:
    expected = row["expected_apr_pct"]
    return [
        row["position_id"],
        row["status"],
        row["asset"],
        f"{row['leverage']:g}",
        "" if row["size_usd"] is None else f"{row['size_usd']:,.2f}",
        "" if expected is None else f"{expected:.2f} %",
        (row["opened"] or "")[:16].replace("T", " "),
    ]


def with_units(body: dict[str, Any]) -> dict[str, Any]:
    """The answer of an entry or a report in which every figure's key has its unit."""
    shown = dict(body)
    if "attribution" in shown:
        shown["attribution_usd"] = shown.pop("attribution")
    if plan := dict(shown.get("plan") or {}):
        plan["expected_apr_pct"] = round(plan.pop("expected_apr") * 100, 2)
        shown["plan"] = plan
    return shown


def show_result(what: str, result: dict[str, Any]) -> None:
    """The end of an entry or exit with its reasons."""
    out.print(
        f"{what}: {result['status']}" + (f" {result['position_id']}" if result.get("position_id") else "")
    )
    for reason in result["reasons"]:
        out.print(f"  {reason}", markup=False, soft_wrap=True)
    for name, value in (result.get("plan") or {}).items():
        out.print(f"  {name}: {'never' if value is None else value}", markup=False, soft_wrap=True)


def show_watched(rows: list[dict[str, Any]]) -> None:
    """A line for each live position: whether it is watched, and its last look."""
    for row in rows:
        word = "watched" if row["watched"] else "NOT WATCHED"
        style = "" if row["watched"] else "red"
        out.print(
            f"{row['position_id']} ({row['status']}): {word}, last look {row['seconds_since_tick']:.0f} s ago",
            style=style,
            markup=False,
            soft_wrap=True,
        )
    if not rows:
        out.print("no live position: nothing has to be watched")
