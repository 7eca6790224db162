"""Places the labels of events above a time axis so that none overlaps another and few rows are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analytics.carry.life import LifeEvent

PX_PER_CHAR = 6.4
"""Width of a bold character of 11 px, a little generous."""

GAP_PX = 14
MAX_ROWS = 6
NEARNESS = (0.02, 0.05, 0.1, 0.2)
"""How near, as a share of the time shown, events of one kind may come before they become one label; tried
in order."""


@dataclass(frozen=True)
class Label:
    """An event's label: the row it is drawn in (0 is the top) and the side of its line on which it stands."""

    at_ms: int
    text: str
    row: int
    align: str
    tone: str


def place(events: Sequence[LifeEvent], start_ms: int, end_ms: int, width_px: int) -> tuple[list[Label], int]:
    """Return labels in at most `MAX_ROWS` rows, and how many events had to stay without one.

    Lines run down from a label, so a label keeps off the lines of the rows above it as well. Where events are
    dense, those of one kind that lie near each other share a label with their count.
    """
    ordered = sorted(events, key=lambda event: event.at_ms)
    span_ms = max(1, end_ms - start_ms)
    for nearness in NEARNESS:
        labels = _rows(_merge(ordered, span_ms * nearness), start_ms, span_ms, width_px)
        if all(label.row < MAX_ROWS for label, _ in labels):
            break
    shown = [label for label, _ in labels if label.row < MAX_ROWS]
    return shown, sum(count for label, count in labels if label.row >= MAX_ROWS)


def _merge(ordered: Sequence[LifeEvent], near_ms: float) -> list[tuple[LifeEvent, int]]:
    merged: list[tuple[LifeEvent, int]] = []
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    for event in ordered:
        key = (event.kind, event.tone)
        index, last_ms = latest.get(key, (-1, 0))
        if index >= 0 and event.at_ms - last_ms < near_ms:
            first, count = merged[index]
            merged[index] = (first, count + 1)
        else:
            index = len(merged)
            merged.append((event, 1))
        latest[key] = (index, event.at_ms)
    return merged


def _rows(
    merged: Sequence[tuple[LifeEvent, int]], start_ms: int, span_ms: int, width_px: int
) -> list[tuple[Label, int]]:
    placed: list[tuple[float, float, float, int]] = []
    labels = []
    # Beginning and end matter most, so they get their places first.
    for event, count in [*merged[:1], *merged[:0:-1][:2], *merged[1:-2]]:
        text = event.label if count == 1 else f"{event.label} (×{count})"
        x = (event.at_ms - start_ms) / span_ms * width_px
        length = len(text) * PX_PER_CHAR + GAP_PX
        align = "left" if x + length <= width_px else "right"
        left, right = (x, x + length) if align == "left" else (x - length, x)
        lowest = max((row for *_, row in placed), default=-1) + 1

        def free(row: int, left: float = left, right: float = right, x: float = x) -> bool:
            for other_left, other_right, other_x, other_row in placed:
                if row == other_row and left < other_right and other_left < right:
                    return False
                if row > other_row and left < other_x < right - GAP_PX:
                    return False
                if row < other_row and other_left < x < other_right - GAP_PX:
                    return False
            return True

        row = next((row for row in range(lowest) if free(row)), lowest)
        placed.append((left, right, x, row))
        labels.append((Label(event.at_ms, text, row, align, event.tone), count))
    return labels
