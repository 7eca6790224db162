"""A figure with its bar, as `make bench` prints it and `out/bench/summary.json` keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`ok` is whether the value keeps within the bar; a row without a bar is for information.

    Where the same thing was measured done otherwise in the same run, that is the `peer`, `peer_value` its figure in the
    same unit, and `ratio` ours divided by it.
    """

    name: str
    value: float
    unit: str
    bar: str = ""
    ok: bool = True
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


def at_most(
    name: str, value: float, unit: str, bar: float, peer: str | None = None, peer_value: float | None = None
) -> Row:
    """A figure that must not exceed the bar, next to its peer's where there is one."""
    ratio = round(value / peer_value, 3) if peer_value else None
    shown = None if peer_value is None else round(peer_value, 3)
    return Row(name, round(value, 3), unit, f"at most {bar:g}", value <= bar, peer, shown, ratio)


def at_most_times(name: str, value: float, unit: str, times: float, peer: str, peer_value: float) -> Row:
    """A figure that must not exceed so many times its peer's of the same run: what holds on a slow machine as on a fast one."""
    ratio = round(value / peer_value, 3)
    bar = f"at most {times:g} times its peer"
    return Row(name, round(value, 3), unit, bar, ratio <= times, peer, round(peer_value, 3), ratio)
