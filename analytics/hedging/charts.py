"""Draws what was earned by what, what lay open, and how long fills waited for their hedge, as PNG, SVG and HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert as vlc

from analytics.hedging.buckets import Bucket
from analytics.hedging.pnl import Pnl, SymbolPnl

COLOURS = ("#009E73", "#0072B2", "#D55E00")
"""Of Okabe and Ito, which stay apart for colour-blind readers; the lines also differ in dash."""
DASHES = ((1, 0), (6, 3), (2, 2))
WIDTH, HEIGHT = 900, 190
MOST_POINTS = 1500
CONFIG = {
    "background": "white",
    "font": "DejaVu Sans, Arial, sans-serif",
    "view": {"stroke": "#DDDDDD"},
    "axis": {"labelFontSize": 11, "titleFontSize": 11, "gridColor": "#EEEEEE", "titleFontWeight": "normal"},
    "title": {"fontSize": 13, "anchor": "start", "frame": "group", "offset": 6},
    "legend": {"labelFontSize": 11, "title": None},
}


def pnl_chart(found: Pnl, title: str) -> Any:
    """Return three panels over one time axis (UTC): earned by bucket, dollars that lay open by symbol, waits of fills.

    Raises ValueError when there is nothing to draw.
    """
    times = [row.trade.at_ms for one in found.symbols.values() for row in one.rows]
    if not times:
        raise ValueError("no trades to draw: a picture needs at least one")
    start_ms, end_ms = min(times), max(max(times), min(times) + 1)
    first, last = (datetime.fromtimestamp(ms / 1000, tz=UTC) for ms in (start_ms, end_ms))
    caption = f"time (UTC), {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    axis = alt.Axis(title=caption, format="%d %b %H:%M", tickCount=8)
    x = alt.X("at:T", scale=alt.Scale(type="utc", domain=[start_ms, end_ms], nice=False), axis=axis)
    panels = [
        _lines(
            _earned(found),
            x,
            "earned, USD",
            [bucket.label for bucket in Bucket],
            "Realised, by what it was earned by",
        ),
        _lines(_open(found), x, "open, USD", sorted(found.symbols), "Open, at the price of its last trade"),
    ]
    if waits := _waits(found):
        y = alt.Y("y:Q", title="seconds", scale=alt.Scale(type="log", nice=True))
        dots = alt.Chart(alt.Data(values=waits)).mark_point(size=18, opacity=0.6, color=COLOURS[1])
        panels.append(
            dots.encode(x=x, y=y).properties(
                width=WIDTH, height=HEIGHT, title="From block to hedge fill, of each fill"
            )
        )
    return (
        alt.vconcat(*panels, spacing=14)
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(title=alt.TitleParams(title, fontSize=17, offset=12), padding=14)
    )


def save_pnl_chart(found: Pnl, path_stem: Path, title: str = "Hedged market making") -> list[Path]:
    """Draw and write the picture. Takes 1 to 3 s of CPU: call it off the event loop."""
    spec = pnl_chart(found, title).to_dict()
    spec.pop("$schema", None)
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg, html = (path_stem.with_name(f"{path_stem.name}.{end}") for end in ("png", "svg", "html"))
    png.write_bytes(vlc.vegalite_to_png(spec, scale=2, config=CONFIG))
    svg.write_text(vlc.vegalite_to_svg(spec, config=CONFIG), encoding="utf-8")
    html.write_text(vlc.vegalite_to_html(spec, bundle=True, config=CONFIG), encoding="utf-8")
    return [png, svg, html]


def _lines(values: list[dict[str, Any]], x: Any, caption: str, names: list[str], title: str) -> Any:
    many = len(names)
    colours = list(COLOURS) if many <= len(COLOURS) else None
    scale = alt.Scale(domain=names, range=colours[:many]) if colours else alt.Scale(domain=names)
    dashes = alt.Scale(domain=names, range=[DASHES[place % len(DASHES)] for place in range(many)])
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=x,
            y=alt.Y("y:Q", title=caption),
            color=alt.Color("what:N", scale=scale),
            strokeDash=alt.StrokeDash("what:N", scale=dashes),
        )
        .properties(width=WIDTH, height=HEIGHT, title=title)
    )


def _earned(found: Pnl) -> list[dict[str, Any]]:
    """The running sum of each bucket, by the time of what closed."""
    sums = dict.fromkeys(Bucket, 0.0)
    points: list[dict[str, Any]] = []
    pairs = sorted(
        (pair for one in found.symbols.values() for pair in one.pairs), key=lambda pair: pair.closer.at_ms
    )
    for pair in pairs:
        sums[pair.bucket] += float(pair.realised_usd)
        points.append({"at": pair.closer.at_ms, "y": sums[pair.bucket], "what": pair.bucket.label})
    last = max((row.trade.at_ms for one in found.symbols.values() for row in one.rows), default=0)
    ends = [{"at": last, "y": sums[bucket], "what": bucket.label} for bucket in Bucket]
    return _thin(points) + ends


def _open(found: Pnl) -> list[dict[str, Any]]:
    return [point for one in found.symbols.values() for point in _thin(_open_of(one))]


def _open_of(one: SymbolPnl) -> list[dict[str, Any]]:
    return [
        {"at": row.trade.at_ms, "y": float(row.net_shares * row.price_usd), "what": one.symbol}
        for row in one.rows
    ]


def _waits(found: Pnl) -> list[dict[str, Any]]:
    waits = [
        {"at": pair.opener.at_ms, "y": max(pair.open_ms / 1000, 0.001)}
        for one in found.symbols.values()
        for pair in one.pairs
        if pair.opener.source == "chain" and pair.closer.source == "broker"
    ]
    return _thin(waits)


def _thin(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most so many of them, the greatest and the least of each stretch kept, and the last."""
    if len(points) <= MOST_POINTS:
        return points
    stretch = -(-len(points) // (MOST_POINTS // 2))
    kept: list[dict[str, Any]] = []
    for begin in range(0, len(points), stretch):
        places = range(begin, min(begin + stretch, len(points)))
        chosen = {
            min(places, key=lambda each: points[each]["y"]),
            max(places, key=lambda each: points[each]["y"]),
        }
        kept += [points[each] for each in sorted(chosen)]
    return [*kept, points[-1]]
