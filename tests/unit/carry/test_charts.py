"""Charts hold every extreme, never overlap labels, and come out as files that need no network."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.carry.charts import (
    WIDTH,
    attribution_chart,
    life_chart,
    save_attribution_chart,
    save_life_chart,
)
from analytics.carry.labels import MAX_ROWS, PX_PER_CHAR, place
from analytics.carry.life import LifeEvent, LifeSnapshot, life_frame, thin
from tests.carry.lives import attributed, whole_life

T0 = 1_760_000_000_000
HOUR_MS = 3_600_000


def snapshots(hours: int = 120) -> list[LifeSnapshot]:
    return [
        LifeSnapshot(
            at_ms=T0 + hour * HOUR_MS,
            funding_rate_hourly=0.0000125 if hour < hours // 2 else -0.00003,
            long_distance=0.25 + hour / 10_000 if hour else None,
            short_distance=0.3 - hour / 10_000 if hour else None,
            equity_usd=5000 + hour / 10,
        )
        for hour in range(hours)
    ]


EVENTS = [
    LifeEvent(at_ms=T0 + HOUR_MS, kind="enter", label="enter"),
    LifeEvent(at_ms=T0 + 40 * HOUR_MS, kind="unknown", label="answer lost, found by its key", tone="trouble"),
    LifeEvent(at_ms=T0 + 119 * HOUR_MS, kind="exit", label="exit: carry negative"),
]


def test_life_chart_is_written_as_png_svg_and_self_contained_html(tmp_path: Path) -> None:
    png, svg, html = save_life_chart(snapshots(), EVENTS, tmp_path / "deep" / "life")
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width > 2 * WIDTH and height > 1000
    words = "".join(ElementTree.fromstring(svg.read_text()).itertext())
    for expected in (
        "Life of the position",
        "Funding rate",
        "Distance to liquidation",
        "Equity",
        "% a year",
        "long leg (price falls)",
        "short leg (price rises)",
        "time (UTC)",
        *(event.label for event in EVENTS),
    ):
        assert expected in words
    page = html.read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)\s*=\s*[\"']?https?:", page)
    assert not re.search(r"\bimport\s*\(?[\"']https?:", page)


def test_waterfall_ends_at_the_net_result(tmp_path: Path) -> None:
    found = attributed(*whole_life())
    spec = attribution_chart(found, "Money").to_dict()
    rows = next(layer["data"]["values"] for layer in spec["layer"] if "item" in layer["data"]["values"][0])
    steps, net = rows[:-1], rows[-1]
    assert net["usd"] == pytest.approx(float(found.net_usd))
    assert sum(row["usd"] for row in steps) == pytest.approx(float(found.net_usd))
    assert all(a["to"] == b["from"] for a, b in pairwise(steps))
    assert all(path.stat().st_size > 1000 for path in save_attribution_chart(found, tmp_path / "money"))


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="no snapshots"):
        life_chart([], [], "empty")


def test_one_snapshot_without_any_value_still_draws(tmp_path: Path) -> None:
    assert save_life_chart([LifeSnapshot(at_ms=T0)], [], tmp_path / "bare")[0].stat().st_size > 1000


def rows_with(part: object, key: str) -> list[dict]:
    """Every data row with `key`, wherever the chart keeps its data."""
    if isinstance(part, dict):
        here = [part] if key in part and "at" in part else []
        return here + [row for child in part.values() for row in rows_with(child, key)]
    if isinstance(part, list):
        return [row for child in part for row in rows_with(child, key)]
    return []


def test_a_value_not_known_is_a_gap_and_not_zero() -> None:
    chart = life_chart([LifeSnapshot(at_ms=T0), *snapshots()[1:]], EVENTS, "gap").to_dict()
    distances = rows_with(chart, "distance")
    assert len(distances) == 2 * 120
    assert [row["distance"] for row in distances if row["at"] == T0] == [None, None]
    assert all(row["distance"] for row in distances if row["at"] != T0)
    unknown = [row for row in rows_with(chart, "rate") if row["at"] == T0]
    assert unknown
    assert all(row["rate"] is row["paid"] is row["owed"] is None for row in unknown)


def test_thinning_keeps_ends_and_extremes() -> None:
    rows = snapshots(20_000)
    rows[7_777] = rows[7_777].model_copy(update={"long_distance": 0.001})
    rows[12_345] = rows[12_345].model_copy(update={"funding_rate_hourly": 0.02})
    frame = life_frame(rows)
    thinned = thin(frame, 1500)
    assert 300 < len(thinned) <= 1500
    assert thinned.index[0] == frame.index[0] and thinned.index[-1] == frame.index[-1]
    assert thinned["long_distance"].min() == 0.001
    assert thinned["funding_rate_hourly"].max() == 0.02
    assert thinned.index.is_monotonic_increasing
    assert len(thin(frame.head(1500), 1500)) == 1500


def test_snapshots_are_ordered_and_the_later_of_one_moment_wins() -> None:
    frame = life_frame(
        [
            LifeSnapshot(at_ms=T0 + 5, equity_usd=3),
            LifeSnapshot(at_ms=T0, equity_usd=1),
            LifeSnapshot(at_ms=T0, equity_usd=2),
        ]
    )
    assert frame["equity_usd"].tolist() == [2, 3]


@given(
    st.lists(
        st.builds(
            LifeEvent,
            at_ms=st.integers(T0, T0 + 300 * HOUR_MS),
            kind=st.sampled_from(["enter", "rebalance", "exit", "alert"]),
            label=st.text("abcdefgh ", min_size=1, max_size=40),
        ),
        max_size=25,
    )
)
def test_event_labels_never_overlap_nor_leave_the_picture(events: list[LifeEvent]) -> None:
    end = T0 + 300 * HOUR_MS
    labels, unlabelled = place(events, T0, end, WIDTH)
    assert all(label.row < MAX_ROWS for label in labels)
    if events:
        assert min(event.at_ms for event in events) in {label.at_ms for label in labels}
    counts = [int(label.text.partition("(×")[2].rstrip(")") or 1) for label in labels]
    assert sum(counts) + unlabelled == len(events)
    boxes = []
    for label in labels:
        x = (label.at_ms - T0) / (end - T0) * WIDTH
        length = len(label.text) * PX_PER_CHAR
        boxes.append((label.row, x, x + length) if label.align == "left" else (label.row, x - length, x))
    for index, (row, left, right) in enumerate(boxes):
        assert left >= 0 and right <= WIDTH
        for other_row, other_left, other_right in boxes[index + 1 :]:
            assert row != other_row or right <= other_left or other_right <= left


def test_far_apart_labels_share_the_top_row_and_a_pile_becomes_one() -> None:
    end = T0 + 300 * HOUR_MS
    apart = [LifeEvent(at_ms=T0 + h * HOUR_MS, kind="k", label="enter") for h in (10, 150, 250)]
    assert [label.row for label in place(apart, T0, end, WIDTH)[0]] == [0, 0, 0]
    pile = [LifeEvent(at_ms=T0 + h * HOUR_MS, kind="k", label="rebalance") for h in (10, 11, 12)]
    ((only,), unlabelled) = place(pile, T0, end, WIDTH)
    assert (only.text, unlabelled) == ("rebalance (×3)", 0)


def test_more_events_than_fit_are_counted_under_the_picture(tmp_path: Path) -> None:
    many = [LifeEvent(at_ms=T0 + h * HOUR_MS, kind=f"k{h}", label="a rather long label") for h in range(40)]
    words = save_life_chart(snapshots(), many, tmp_path / "many")[1].read_text()
    assert "events drawn without a label" in words
