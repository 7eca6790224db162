"""Draws the life of a position and where its money came from, as PNG, SVG and HTML that need no network.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; the two legs also differ in
dash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert as vlc

from analytics.attribution import ITEMS, Attribution
from analytics.life import LifeEvent, LifeSnapshot, life_frame, thin
from analytics.words import ITEM_NAMES, signed_usd

BLUE, VERMILION, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#222222", "#8A8A8A"
WIDTH = 900
MAX_POINTS = 1500
HOURS_PER_YEAR = 8760
LABEL_PX_PER_CHAR = 6.4
LABEL_ROW_PX = 17
CONFIG = {
    "background": "white",
    "font": "DejaVu Sans, Arial, sans-serif",
    "view": {"stroke": "#DDDDDD"},
    "axis": {"labelFontSize": 11, "titleFontSize": 11, "gridColor": "#EEEEEE", "titleFontWeight": "normal"},
    "title": {
        "fontSize": 13,
        "anchor": "start",
        "frame": "group",
        "subtitleFontSize": 11,
        "subtitleColor": "#555555",
        "offset": 6,
    },
    "legend": {"labelFontSize": 11, "title": None},
}
ABOVE_RIGHT = alt.Legend(
    orient="none", direction="horizontal", legendX=WIDTH - 320, legendY=-22, symbolSize=300
)
"""Beside the panel's title, where it hides no line."""


@dataclass(frozen=True)
class _Label:
    """An event's label and the row it is drawn in, so that no two overlap."""

    at_ms: int
    text: str
    row: int
    align: str
    tone: str


def _place(events: Sequence[LifeEvent], start_ms: int, end_ms: int) -> list[_Label]:
    """Gives every label a row of its own where it would meet another; a pile of one kind becomes one."""
    span = max(1, end_ms - start_ms)
    merged: list[tuple[LifeEvent, int]] = []
    for event in sorted(events, key=lambda event: event.at_ms):
        if merged:
            last, count = merged[-1]
            if last.kind == event.kind and event.at_ms - last.at_ms < span * 0.02:
                merged[-1] = (last, count + 1)
                continue
        merged.append((event, 1))
    placed: list[tuple[float, float, int]] = []
    labels = []
    for event, count in merged:
        text = event.label if count == 1 else f"{event.label} (×{count})"
        x = (event.at_ms - start_ms) / span * WIDTH
        length = len(text) * LABEL_PX_PER_CHAR + 14
        align = "left" if x + length <= WIDTH else "right"
        left, right = (x, x + length) if align == "left" else (x - length, x)
        # Below every label it meets: its line then goes down without crossing them.
        row = max((other[2] + 1 for other in placed if left < other[1] and other[0] < right), default=0)
        placed.append((left, right, row))
        labels.append(_Label(event.at_ms, text, row, align, event.tone))
    return labels


def _values(frame: pd.DataFrame, **columns: pd.Series) -> alt.Data:
    table = pd.DataFrame({"at": frame["at_ms"].astype("int64"), **columns})
    return alt.Data(values=table.astype(object).where(table.notna(), None).to_dict("records"))


def life_chart(snapshots: Sequence[LifeSnapshot], events: Sequence[LifeEvent], title: str) -> Any:
    """Three panels over one time axis (UTC): funding, distance to liquidation of both legs, equity.

    Raises ValueError when there is nothing to draw.
    """
    if not snapshots:
        raise ValueError("no snapshots to draw: a life needs at least one observation")
    frame = thin(life_frame(snapshots), MAX_POINTS)
    times = [int(frame["at_ms"].iloc[0]), int(frame["at_ms"].iloc[-1]), *(event.at_ms for event in events)]
    start_ms, end_ms = min(times), max(max(times), min(times) + 1)
    scale = alt.Scale(type="utc", domain=[start_ms, end_ms], nice=False)
    days = (end_ms - start_ms) / 86_400_000
    pattern = "%d %b" if days > 5 else "%d %b %H:%M"
    first, last = (datetime.fromtimestamp(ms / 1000, tz=UTC) for ms in (start_ms, end_ms))
    caption = f"time (UTC), {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"

    def x(label: bool) -> Any:
        axis = alt.Axis(
            format=pattern, tickCount=8, labels=label, ticks=label, title=caption if label else None
        )
        return alt.X("at:T", scale=scale, axis=axis)

    rules = alt.Data(values=[{"at": event.at_ms, "tone": event.tone} for event in events])
    tone = alt.condition("datum.tone == 'trouble'", alt.value(VERMILION), alt.value(GREY))

    def with_events(panel: Any, label: bool) -> Any:
        if not events:
            return panel
        rule = alt.Chart(rules).mark_rule(strokeDash=[3, 3], opacity=0.8).encode(x=x(label), color=tone)
        return panel + rule

    panels = [
        with_events(_funding_panel(frame, x(False)), False),
        with_events(_distance_panel(frame, x(False)), False),
        with_events(_equity_panel(frame, x(True)), True),
    ]
    if events:
        panels.insert(0, _event_strip(_place(events, start_ms, end_ms), x(False)))
    return (
        alt.vconcat(*panels, spacing=14)
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(title=alt.TitleParams(title, fontSize=17, offset=12), padding=14)
    )


def _event_strip(labels: Sequence[_Label], x: Any) -> Any:
    rows = max(label.row for label in labels) + 1
    height = rows * LABEL_ROW_PX + 6
    base = [{"at": label.at_ms, "text": label.text, "y": label.row, "tone": label.tone} for label in labels]
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.6, rows - 0.4], reverse=True, nice=False))
    tone = alt.condition("datum.tone == 'trouble'", alt.value(VERMILION), alt.value(INK))
    stems = (
        alt.Chart(alt.Data(values=[{**row, "bottom": rows - 0.4} for row in base]))
        .mark_rule(strokeDash=[3, 3])
        .encode(x=x, y=y, y2="bottom:Q", color=alt.value(GREY))
    )
    layers = [stems]
    for align, shift in (("left", 5), ("right", -5)):
        rows_here = [row for row, label in zip(base, labels, strict=True) if label.align == align]
        if rows_here:
            style = {"align": align, "dx": shift, "fontSize": 11, "fontWeight": "bold", "baseline": "middle"}
            text = alt.Chart(alt.Data(values=rows_here)).encode(x=x, y=y, text="text:N")
            layers.append(text.mark_text(**style, stroke="white", strokeWidth=5))
            layers.append(text.mark_text(**style).encode(color=tone))
    return alt.layer(*layers).properties(width=WIDTH, height=height, view=alt.ViewConfig(stroke=None))


def _funding_panel(frame: pd.DataFrame, x: Any) -> Any:
    yearly = frame["funding_rate_hourly"] * HOURS_PER_YEAR * 100
    data = _values(frame, rate=yearly, paid=yearly.clip(lower=0), owed=yearly.clip(upper=0))
    y = alt.Y("rate:Q", title="% a year", axis=alt.Axis(tickCount=5))
    base = alt.Chart(data)
    areas = [
        base.mark_area(interpolate="step-after", opacity=0.35, color=colour).encode(
            x=x, y=alt.Y(f"{column}:Q", title="% a year")
        )
        for column, colour in (("paid", BLUE), ("owed", VERMILION))
    ]
    line = base.mark_line(interpolate="step-after", strokeWidth=1.2, color=INK).encode(x=x, y=y)
    zero = alt.Chart(alt.Data(values=[{"y": 0}])).mark_rule(color=INK, strokeWidth=1).encode(y="y:Q")
    title = alt.TitleParams(
        "Funding rate", subtitle="above zero (blue) the short is paid, below zero (orange) it pays"
    )
    return alt.layer(*areas, line, zero).properties(width=WIDTH, height=130, title=title)


def _distance_panel(frame: pd.DataFrame, x: Any) -> Any:
    legs = {"long leg (price falls)": "long_distance", "short leg (price rises)": "short_distance"}
    values = [
        {"at": int(at), "leg": leg, "distance": None if pd.isna(seen) else float(seen) * 100}
        for leg, column in legs.items()
        for at, seen in zip(frame["at_ms"], frame[column], strict=True)
    ]
    names = list(legs)
    line = (
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=1.8, invalid="break-paths-show-path-domains")
        .encode(
            x=x,
            y=alt.Y(
                "distance:Q", title="% of price", scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=5)
            ),
            color=alt.Color(
                "leg:N", scale=alt.Scale(domain=names, range=[BLUE, VERMILION]), legend=ABOVE_RIGHT
            ),
            strokeDash=alt.StrokeDash(
                "leg:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 3]]), legend=ABOVE_RIGHT
            ),
        )
    )
    title = alt.TitleParams(
        "Distance to liquidation", subtitle="how far the price may move against each leg; 0 means liquidated"
    )
    return alt.layer(line).properties(width=WIDTH, height=150, title=title)


def _equity_panel(frame: pd.DataFrame, x: Any) -> Any:
    data = _values(frame, equity=frame["equity_usd"])
    y = alt.Y("equity:Q", title="USD", scale=alt.Scale(zero=False), axis=alt.Axis(format=",.2f", tickCount=5))
    line = (
        alt.Chart(data)
        .mark_line(strokeWidth=1.8, color=GREEN, invalid="break-paths-show-path-domains")
        .encode(x=x, y=y)
    )
    known = frame["equity_usd"].dropna()
    subtitle = "what both venues hold for the position"
    layers = [line]
    if len(known):
        first, last = float(known.iloc[0]), float(known.iloc[-1])
        start = alt.Chart(alt.Data(values=[{"equity": first}])).mark_rule(color=GREY, strokeWidth=1)
        layers.append(start.encode(y=y))
        subtitle += f": from {first:,.2f} (grey line) to {last:,.2f} USD"
    title = alt.TitleParams("Equity", subtitle=subtitle)
    return alt.layer(*layers).properties(width=WIDTH, height=150, title=title)


def attribution_chart(found: Attribution, title: str) -> Any:
    """A waterfall from zero to the net result in USD; the two price legs, which cancel, are one bar."""
    steps: list[tuple[str, float]] = []
    for name in ITEMS:
        if name == "price_short":
            continue
        value = found.price_net_usd if name == "price_long" else found.items[name]
        label = "price, both legs" if name == "price_long" else ITEM_NAMES[name]
        if value != 0 or name == "funding":
            steps.append((label, float(value)))
    rows: list[dict[str, Any]] = []
    running = 0.0
    for label, usd in steps:
        side = "came in" if usd >= 0 else "went out"
        rows.append({"item": label, "from": running, "to": running + usd, "usd": usd, "side": side})
        running += usd
    rows.append({"item": "net result", "from": 0.0, "to": running, "usd": running, "side": "net result"})
    for row in rows:
        row["right"] = max(row["from"], row["to"])
        row["text"] = signed_usd(Decimal(repr(row["usd"])))
    ends = [float(row[key]) for row in rows for key in ("from", "to")]
    room = (max(*ends, 0) - min(*ends, 0)) or 1.0
    domain = [min(*ends, 0) - room * 0.03, max(*ends, 0) + room * 0.12]
    order = [row["item"] for row in rows]
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("item:N", sort=order, title=None))
    x = alt.X("from:Q", title="USD, running total", scale=alt.Scale(domain=domain, nice=False))
    kinds = ["came in", "went out", "net result"]
    bars = base.mark_bar(height={"band": 0.66}).encode(
        x=x,
        x2="to:Q",
        color=alt.Color(
            "side:N",
            scale=alt.Scale(domain=kinds, range=[BLUE, VERMILION, INK]),
            legend=alt.Legend(orient="bottom", direction="horizontal"),
        ),
    )
    texts = base.mark_text(align="left", dx=5, fontSize=11).encode(x="right:Q", text="text:N")
    zero = alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(color=INK, strokeWidth=1).encode(x="x:Q")
    long, short = (signed_usd(found.items[name]) for name in ("price_long", "price_short"))
    legs = f"price of both legs: long {long}, short {short} USD; what is left of it is one bar"
    return alt.layer(bars, texts, zero).properties(
        width=640,
        height=28 * len(rows),
        title=alt.TitleParams(title, subtitle=legs, fontSize=16, offset=12),
        padding=14,
    )


def save_chart(chart: Any, path_stem: Path) -> list[Path]:
    """Writes `<stem>.png`, `.svg` and a self-contained `.html`; needs neither browser nor network."""
    spec = chart.to_dict()
    spec.pop("$schema", None)
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg, html = (path_stem.with_name(f"{path_stem.name}.{end}") for end in ("png", "svg", "html"))
    png.write_bytes(vlc.vegalite_to_png(spec, scale=2, config=CONFIG))
    svg.write_text(vlc.vegalite_to_svg(spec, config=CONFIG), encoding="utf-8")
    html.write_text(vlc.vegalite_to_html(spec, bundle=True, config=CONFIG), encoding="utf-8")
    return [png, svg, html]


def save_life_chart(
    snapshots: Sequence[LifeSnapshot],
    events: Sequence[LifeEvent],
    path_stem: Path,
    title: str = "Life of the position",
) -> list[Path]:
    """Draws and writes the life of a position; at most 1,500 points, extremes kept."""
    return save_chart(life_chart(snapshots, events, title), path_stem)


def save_attribution_chart(
    found: Attribution, path_stem: Path, title: str = "Where the money came from and went"
) -> list[Path]:
    """Draws and writes the waterfall of an attribution."""
    return save_chart(attribution_chart(found, title), path_stem)
