"""Rows of the ledger as plain values, with units in their names: what `evenkeel status` and the web pages show alike."""

from __future__ import annotations

from typing import Any

from evenkeel.clock import as_datetime
from state.carry.models import Position
from state.store import Store
from state.watch_models import Alert, Pause
from strategy.breakers.state import BreakerState


def alert_row(one: Alert) -> dict[str, Any]:
    at = as_datetime(one.at_ms).isoformat(timespec="seconds")
    return {
        "kind": one.kind,
        "severity": one.severity,
        "text": one.text,
        "subject": one.subject,
        "since": at,
        "times": one.times,
        "acknowledged": None
        if one.seen_ms is None
        else as_datetime(one.seen_ms).isoformat(timespec="seconds"),
    }


def pause_row(one: Pause) -> dict[str, Any]:
    until = None if one.until_ms is None else as_datetime(one.until_ms).isoformat(timespec="seconds")
    since = as_datetime(one.since_ms).isoformat(timespec="seconds")
    return {"scope": one.scope, "reason": one.reason, "since": since, "until": until}


def position_row(one: Position) -> dict[str, Any]:
    return {
        "position_id": one.position_id,
        "status": one.status.value,
        "asset": one.asset,
        "protocol": one.protocol,
        "leverage": float(one.leverage),
        "size_usd": None if one.size_usd is None else round(float(one.size_usd), 2),
        "expected_apr_pct": None if one.expected_apr is None else round(float(one.expected_apr) * 100, 2),
        "opened": None if one.opened_ms is None else as_datetime(one.opened_ms).isoformat(timespec="seconds"),
        "closed": None if one.closed_ms is None else as_datetime(one.closed_ms).isoformat(timespec="seconds"),
        "close_reason": one.close_reason,
    }


def last_tick(store: Store, position: Position, seen: dict[str, Any] | None) -> dict[str, Any]:
    """How the position stood at the last look, and how long ago that was. Distances and drift in per cent, prices in USD,
    funding in per cent an hour; None where it was not read.
    """
    last = store.carry.last_snapshot(position.position_id)

    def of(name: str, factor: int = 1) -> float | None:
        value = None if last is None else getattr(last, name)
        return None if value is None else round(float(value) * factor, 6)

    def detail(name: str, factor: int) -> float | None:
        value = None if last is None else last.detail.get(name)
        return None if value is None else round(float(value) * factor, 6)

    return {
        "seconds_since_tick": seen["seconds_since_tick"] if seen else None,
        "watched": seen is None or seen["watched"],
        "long_liquidation_distance_pct": of("long_liquidation_distance", 100),
        "short_liquidation_distance_pct": of("short_liquidation_distance", 100),
        "long_price_usd": of("long_price_usd"),
        "short_price_usd": of("short_price_usd"),
        "delta_sol": of("delta_sol"),
        "funding_pct_per_hour": of("funding_rate_hourly", 100),
        "expected_funding_pct_per_hour": detail("funding_expected_hourly", 100),
        "borrow_apr_pct": detail("borrow_apr", 100),
        "equity_usd": of("equity_usd"),
    }


def breaker_row(one: BreakerState) -> dict[str, Any]:
    """Times as dates, for a person and for a program alike."""
    row = one.model_dump(mode="json", exclude={"keep", "since_ms", "until_ms"})
    for name, at_ms in (("since", one.since_ms), ("until", one.until_ms)):
        row[name] = None if at_ms is None else as_datetime(at_ms).isoformat(timespec="seconds")
    return row


def legs_of(store: Store, position: Position) -> list[dict[str, Any]]:
    return [leg.model_dump(mode="json", exclude={"detail"}) for leg in store.carry.legs(position.position_id)]
