"""Draws the life of a position and where its money came from, as PNG, SVG and HTML that need no network.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; the two legs also differ in
dash.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert as vlc

from analytics.carry.attribution import ITEMS, Attribution
from analytics.carry.labels import Label, place
from analytics.carry.life import LifeEvent, LifeSnapshot, life_frame, thin
from analytics.carry.words import ITEM_NAMES, signed_usd
from evenkeel.units import DAY_MS, HOURS_PER_YEAR

BLUE, VERMILION, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#222222", "#8A8A8A"
WIDTH = 900
MAX_POINTS = 1500
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

FAR_PERCENT = 60.0
"""A leg this far from liquidation is in no danger; drawing it to scale would hide the leg that is."""


def _values(frame: pd.DataFrame, **columns: pd.Series) -> alt.Data:
    table = pd.DataFrame({"at": frame["at_ms"].astype("int64"), **columns})
    return alt.Data(values=table.astype(object).where(table.notna(), None).to_dict("records"))


def time_axis(scale: Any, pattern: str, ticks: int, caption: str, label: bool) -> Any:
    """Return the time axis that all panels of a picture share; only the one with a label names hours and caption."""
    axis = alt.Axis(
        format=pattern, tickCount=ticks, labels=label, ticks=label, title=caption if label else None
    )
    return alt.X("at:T", scale=scale, axis=axis)


def life_chart(snapshots: Sequence[LifeSnapshot], events: Sequence[LifeEvent], title: str) -> Any:
    """Return three panels over one time axis (UTC): funding, distance to liquidation of both legs, equity.

    Raises ValueError when there is nothing to draw.
    """
    if not snapshots:
        raise ValueError("no snapshots to draw: a life needs at least one observation")
    frame = thin(life_frame(snapshots), MAX_POINTS)
    times = [int(frame["at_ms"].iloc[0]), int(frame["at_ms"].iloc[-1]), *(event.at_ms for event in events)]
    start_ms, end_ms = min(times), max(max(times), min(times) + 1)
    scale = alt.Scale(type="utc", domain=[start_ms, end_ms], nice=False)
    days = (end_ms - start_ms) / DAY_MS
    pattern = "%d %b" if days > 5 else "%d %b %H:%M" if days > 1 else "%H:%M"
    first, last = (datetime.fromtimestamp(ms / 1000, tz=UTC) for ms in (start_ms, end_ms))
    caption = f"time (UTC), {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    labels, unlabelled = place(events, start_ms, end_ms, WIDTH)
    if unlabelled:
        caption += f"; events drawn without a label: {unlabelled}"

    x = partial(time_axis, scale, pattern, 8, caption)

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
        panels.insert(0, _event_strip(labels, x(False)))
    return (
        alt.vconcat(*panels, spacing=14)
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(title=alt.TitleParams(title, fontSize=17, offset=12), padding=14)
    )


def _event_strip(labels: Sequence[Label], x: Any) -> Any:
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


def _from_zero(values: pd.Series) -> alt.Scale:
    """A scale that holds zero and all values, with room so that no line lies on the frame."""
    known = values.dropna()
    low, high = (min(0.0, float(known.min())), max(0.0, float(known.max()))) if len(known) else (0.0, 1.0)
    room = (high - low) * 0.08 or 1.0
    return alt.Scale(domain=[low - (room if low < 0 else 0), high + (room if high > 0 else 0)], nice=False)


def _cut_tails(values: pd.Series) -> tuple[pd.Series, str]:
    """Values with the outermost percent drawn at the frame's edge, and the words that say what was cut.

    One hour of a crash can be a hundred times the usual rate; drawn to scale it would flatten everything else.
    """
    known = values.dropna()
    if known.empty:
        return values, ""
    low, high = float(known.quantile(0.01)), float(known.quantile(0.99))
    room = 2 * max(high - low, 5.0)
    cut = values.clip(lower=low - room, upper=high + room)
    cut_values = [
        f"{name} {value:,.0f} % lies outside"
        for name, value, hidden in (
            ("lowest", float(known.min()), float(known.min()) < low - room),
            ("highest", float(known.max()), float(known.max()) > high + room),
        )
        if hidden
    ]
    return cut, "; " + ", ".join(cut_values) if cut_values else ""


def _funding_panel(frame: pd.DataFrame, x: Any) -> Any:
    yearly, hidden = _cut_tails(frame["funding_rate_hourly"] * HOURS_PER_YEAR * 100)
    data = _values(frame, rate=yearly, paid=yearly.clip(lower=0), owed=yearly.clip(upper=0))
    y = alt.Y("rate:Q", title="% a year", scale=_from_zero(yearly), axis=alt.Axis(tickCount=5))
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
        "Funding rate", subtitle=f"above zero (blue) the short is paid, below zero (orange) it pays{hidden}"
    )
    return alt.layer(*areas, line, zero).properties(width=WIDTH, height=130, title=title)


def _distance_panel(frame: pd.DataFrame, x: Any) -> Any:
    legs = {"long leg (price falls)": "long_distance", "short leg (price rises)": "short_distance"}
    values = [
        {
            "at": int(at),
            "leg": leg,
            "distance": None if pd.isna(seen) else min(float(seen) * 100, FAR_PERCENT),
        }
        for leg, column in legs.items()
        for at, seen in zip(frame["at_ms"], frame[column], strict=True)
    ]
    names = list(legs)
    seen_all = pd.concat([frame[column] for column in legs.values()]) * 100
    hidden = "; 60 % stands for 60 % and more" if (seen_all > FAR_PERCENT).any() else ""
    scale = _from_zero(seen_all.clip(upper=FAR_PERCENT))
    line = (
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=1.8, clip=True, invalid="break-paths-show-path-domains")
        .encode(
            x=x,
            y=alt.Y("distance:Q", title="% of price", scale=scale, axis=alt.Axis(tickCount=5)),
            color=alt.Color(
                "leg:N", scale=alt.Scale(domain=names, range=[BLUE, VERMILION]), legend=ABOVE_RIGHT
            ),
            strokeDash=alt.StrokeDash(
                "leg:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 3]]), legend=ABOVE_RIGHT
            ),
        )
    )
    title = alt.TitleParams(
        "Distance to liquidation",
        subtitle=f"how far the price may move against each leg; 0 means liquidated{hidden}",
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
    subtitle = "what both venues hold for the position, less what was paid in on the way"
    layers = [line]
    if len(known):
        first, last = float(known.iloc[0]), float(known.iloc[-1])
        start = alt.Chart(alt.Data(values=[{"equity": first}])).mark_rule(color=GREY, strokeWidth=1)
        layers.append(start.encode(y=y))
        subtitle += f": from {first:,.2f} (grey line) to {last:,.2f} USD"
    title = alt.TitleParams("Equity", subtitle=subtitle)
    return alt.layer(*layers).properties(width=WIDTH, height=150, title=title)


def attribution_chart(found: Attribution, title: str) -> Any:
    """Return a waterfall from zero to the net result in USD; the two price legs, which cancel, are one bar."""
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
    return alt.layer(zero, bars, texts).properties(
        width=640,
        height=28 * len(rows),
        title=alt.TitleParams(title, subtitle=legs, fontSize=16, offset=12),
        padding=14,
    )


def _spec(chart: Any) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("$schema", None)
    return spec


def as_svg(chart: Any) -> str:
    """Return the picture as SVG; needs neither browser nor network."""
    return str(vlc.vegalite_to_svg(_spec(chart), config=CONFIG))


def save_chart(chart: Any, path_stem: Path) -> list[Path]:
    """Write `<stem>.png`, `.svg` and a self-contained `.html`; needs neither browser nor network."""
    spec = _spec(chart)
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg, html = (path_stem.with_name(f"{path_stem.name}.{end}") for end in ("png", "svg", "html"))
    png.write_bytes(vlc.vegalite_to_png(spec, scale=2, config=CONFIG))
    svg.write_text(vlc.vegalite_to_svg(spec, config=CONFIG), encoding="utf-8")
    html.write_text(vlc.vegalite_to_html(spec, bundle=True, config=CONFIG), encoding="utf-8")
    return [png, svg, html]


def life_png(snapshots: Sequence[LifeSnapshot], events: Sequence[LifeEvent], title: str) -> bytes:
    """Return the life of a position as a PNG for a phone. Takes 1 to 3 s of CPU: call it off the event loop."""
    spec = life_chart(snapshots, events, title).to_dict()
    spec.pop("$schema", None)
    return bytes(vlc.vegalite_to_png(spec, scale=1.5, config=CONFIG))


def save_life_chart(
    snapshots: Sequence[LifeSnapshot],
    events: Sequence[LifeEvent],
    path_stem: Path,
) -> list[Path]:
    """Draw and write the life of a position; at most 1,500 points, extremes kept. Takes 1 to 3 s of CPU: call it off
    the event loop.
    """
    return save_chart(life_chart(snapshots, events, "Life of the position"), path_stem)


def save_attribution_chart(found: Attribution, path_stem: Path) -> list[Path]:
    """Draw and write the waterfall of an attribution."""
    return save_chart(attribution_chart(found, "Where the money came from and went"), path_stem)
