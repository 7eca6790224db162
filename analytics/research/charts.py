"""Draws a back-test as one picture: equity beside a position that is always held, drawdown, and notional against target."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analytics.carry.charts import BLUE, GREEN, GREY, INK, MAX_POINTS, VERMILION, WIDTH, save_chart, time_axis
from analytics.carry.life import thin
from analytics.research.results import DELEVERAGING, Run, drawdowns
from evenkeel.units import DAY_MS, HOUR_MS

RULES, ALWAYS, NOTIONAL, TARGET = "the rules", "always in", "notional of one leg", "target"
MARKED = {"entry": BLUE, "exit": VERMILION, "liquidation": INK, DELEVERAGING: INK}
"""Trades that get a line through all panels. Resizes and transfers are too many: `trades.csv` has them."""
DASHES = [[1, 0], [6, 3]]
LEGEND = alt.Legend(
    orient="none", direction="horizontal", legendX=WIDTH - 250, legendY=-22, symbolSize=300, title=None
)


def backtest_chart(run: Run, always_in: Run, title: str) -> Any:
    """Return three panels over one time axis (UTC). Both runs have the same hours; raises ValueError where there is none."""
    if not run.equity:
        raise ValueError("a back-test of no hour has no picture")
    frame = _frame(run, always_in)
    start_ms, end_ms = int(frame["at_ms"].iloc[0]), int(frame["at_ms"].iloc[-1])
    scale = alt.Scale(type="utc", domain=[start_ms, max(end_ms, start_ms + 1)], nice=False)
    days = (end_ms - start_ms) / DAY_MS
    pattern = "%b %Y" if days > 120 else "%d %b" if days > 5 else "%d %b %H:%M"
    first, last = (datetime.fromtimestamp(ms / 1000, tz=UTC) for ms in (start_ms, end_ms))
    caption = f"time (UTC), {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    marks = _marks(run)
    if marks:
        caption += f"; lines: {_legend_of_marks(run)}"

    x = partial(time_axis, scale, pattern, 10, caption)

    panels = []
    for place, panel in enumerate((_equity_panel, _drawdown_panel, _notional_panel)):
        is_last = place == 2
        drawn = panel(frame, run, always_in, x(is_last))
        if marks:
            lines = alt.Chart(alt.Data(values=marks)).mark_rule(strokeDash=[3, 3], opacity=0.7)
            drawn = drawn + lines.encode(x=x(is_last), color=alt.Color("colour:N", scale=None, legend=None))
        panels.append(drawn)
    return (
        alt.vconcat(*panels, spacing=16)
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(title=alt.TitleParams(title, fontSize=17, offset=12), padding=14)
    )


def save_backtest_chart(run: Run, always_in: Run, title: str, path_stem: Path) -> list[Path]:
    """Draw and write the picture as PNG, SVG and HTML; takes some seconds of CPU."""
    return save_chart(backtest_chart(run, always_in, title), path_stem)


def _frame(run: Run, always_in: Run) -> pd.DataFrame:
    """By hour, thinned with every extreme, entry and exit kept; the first row is the beginning, before anything was done."""
    hours = len(run.equity)
    held = np.array([0.0, *run.notional])
    whole = pd.DataFrame(
        {
            "at_ms": run.first_ms + np.arange(hours + 1) * HOUR_MS,
            RULES: [run.capital_usd, *run.equity],
            ALWAYS: [always_in.capital_usd, *always_in.equity],
            "fall": [0.0, *(-100 * drawdowns(run))],
            "always_fall": [0.0, *(-100 * drawdowns(always_in))],
            NOTIONAL: held,
            TARGET: [run.target[0], *run.target],
        }
    )
    turns = np.flatnonzero(np.diff((held > 0).astype(int)))
    kept = set(thin(whole, MAX_POINTS).index) | set(turns) | set(turns + 1)
    return whole.loc[sorted(kept)]


def _lines(frame: pd.DataFrame, columns: dict[str, str], colours: list[str], x: Any, y: Any) -> Any:
    """One line a column, each with its own colour and dash."""
    names = list(columns)
    values = [
        {"at": int(at), "line": name, "value": float(value)}
        for name, column in columns.items()
        for at, value in zip(frame["at_ms"], frame[column], strict=True)
    ]
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=1.6, clip=True)
        .encode(
            x=x,
            y=y,
            color=alt.Color("line:N", scale=alt.Scale(domain=names, range=colours), legend=LEGEND),
            strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=DASHES), legend=LEGEND),
        )
    )


def _equity_panel(frame: pd.DataFrame, run: Run, always_in: Run, x: Any) -> Any:
    y = alt.Y(
        "value:Q",
        title="USD",
        scale=alt.Scale(zero=False, padding=8),
        axis=alt.Axis(format=",.0f", tickCount=5),
    )
    lines = _lines(frame, {RULES: RULES, ALWAYS: ALWAYS}, [GREEN, GREY], x, y)
    start = alt.Chart(alt.Data(values=[{"value": run.capital_usd}])).mark_rule(color=GREY, strokeWidth=1)
    subtitle = (
        f"from {run.capital_usd:,.0f} to {run.equity[-1]:,.0f} USD; always in to {always_in.equity[-1]:,.0f}"
    )
    title = alt.TitleParams("Equity", subtitle=subtitle)
    return alt.layer(start.encode(y=y), lines).properties(width=WIDTH, height=190, title=title)


def _drawdown_panel(frame: pd.DataFrame, run: Run, always_in: Run, x: Any) -> Any:
    y = alt.Y("value:Q", title="% under the peak", axis=alt.Axis(format=".1f", tickCount=4))
    lines = _lines(frame, {RULES: "fall", ALWAYS: "always_fall"}, [VERMILION, GREY], x, y)
    rows = [
        {"at": int(at), "value": float(fall)} for at, fall in zip(frame["at_ms"], frame["fall"], strict=True)
    ]
    area = alt.Chart(alt.Data(values=rows)).mark_area(color=VERMILION, opacity=0.25).encode(x=x, y=y)
    worst, theirs = (100 * float(drawdowns(one).max()) for one in (run, always_in))
    title = alt.TitleParams("Drawdown", subtitle=f"largest {worst:.2f} %; always in {theirs:.2f} %")
    return alt.layer(area, lines).properties(width=WIDTH, height=120, title=title)


def _notional_panel(frame: pd.DataFrame, run: Run, always_in: Run, x: Any) -> Any:
    y = alt.Y("value:Q", title="USD", axis=alt.Axis(format=",.0f", tickCount=5))
    lines = _lines(frame, {NOTIONAL: NOTIONAL, TARGET: TARGET}, [BLUE, INK], x, y)
    rows = [
        {"at": int(at), "value": float(held)}
        for at, held in zip(frame["at_ms"], frame[NOTIONAL], strict=True)
    ]
    area = alt.Chart(alt.Data(values=rows)).mark_area(color=BLUE, opacity=0.2).encode(x=x, y=y)
    share = sum(1 for held in run.notional if held > 0) / len(run.notional)
    subtitle = (
        f"in the market {share:.0%} of the time; target: what the equity of the time carries with its reserve"
    )
    title = alt.TitleParams("Notional", subtitle=subtitle)
    return alt.layer(area, lines).properties(width=WIDTH, height=150, title=title)


def _marks(run: Run) -> list[dict[str, Any]]:
    return [{"at": one.at_ms, "colour": MARKED[one.kind]} for one in run.trades if one.kind in MARKED]


def _legend_of_marks(run: Run) -> str:
    named = {BLUE: "blue", VERMILION: "orange", INK: "black"}
    kinds = {one.kind for one in run.trades}
    return ", ".join(f"{kind} ({named[colour]})" for kind, colour in MARKED.items() if kind in kinds)
