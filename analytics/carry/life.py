"""What is known of a position at one moment and what happened to it: the input of charts and equity
statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from evenkeel.types import Frozen


class LifeSnapshot(Frozen):
    """One observation. None means not known, or not held, at that moment; it is never drawn as zero.

    `funding_rate_hourly` > 0 pays the short. Distances are the adverse price move, as a fraction, that
    liquidates the leg. `equity_usd` is what both venues hold for the position, less what was
    paid in since it was opened.
    """

    at_ms: int
    funding_rate_hourly: float | None = None
    long_distance: float | None = None
    short_distance: float | None = None
    equity_usd: float | None = None


class LifeEvent(Frozen):
    """Something worth a line in the chart and the timeline. `trouble` stands out from what was planned."""

    at_ms: int
    kind: str
    label: str
    tone: Literal["action", "trouble"] = "action"


COLUMNS = tuple(name for name in LifeSnapshot.model_fields if name != "at_ms")


def life_frame(snapshots: Sequence[LifeSnapshot]) -> pd.DataFrame:
    """Return snapshots as float columns over a UTC time index, in order; of two at one moment the later given wins."""
    frame = pd.DataFrame(
        [[snapshot.at_ms, *(getattr(snapshot, name) for name in COLUMNS)] for snapshot in snapshots],
        columns=["at_ms", *COLUMNS],
    )
    frame = frame.sort_values("at_ms", kind="stable").drop_duplicates("at_ms", keep="last")
    frame.index = pd.to_datetime(frame["at_ms"], unit="ms", utc=True)
    frame.index.name = "time"
    return frame.astype({name: float for name in COLUMNS})


def thin(frame: pd.DataFrame, limit: int = 1500) -> pd.DataFrame:
    """Return at most `limit` rows of `frame`, keeping the first, the last and every stretch's extremes of each column.

    Evenly spaced picking would lose the one spike that matters; so each of the equal stretches of rows
    keeps the rows where a column is smallest or largest.
    """
    if len(frame) <= limit:
        return frame
    columns = [name for name in frame.columns if name != "at_ms" and frame[name].notna().any()]
    stretches = max(1, (limit - 2) // max(1, 2 * len(columns)))
    kept = {0, len(frame) - 1}
    for stretch in range(stretches):
        start, end = stretch * len(frame) // stretches, (stretch + 1) * len(frame) // stretches
        for name in columns:
            part = frame[name].to_numpy(dtype=float)[start:end]
            if not np.isnan(part).all():
                kept |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    return frame.iloc[sorted(kept)]
