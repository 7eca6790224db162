"""How a position stands now, for the head of its thread, and whose an alert is: from the ledger alone."""

from __future__ import annotations

from evenkeel.settings.settings import Settings
from evenkeel.units import DAY_MS
from state.carry.models import Position, PositionSnapshot
from state.fleet.member import member_of
from state.store import Store
from tasks.carry.last_ticks import LastTick, last_ticks
from tasks.carry.mark import LIVE

ENDED_MS = DAY_MS
"""How long after its end a position's head is still brought up to date."""


def standing(store: Store, after_s: float) -> dict[str, str]:
    """By position: its present state in a few words, of those that live and those that ended within a day. One that nobody has
    looked at for more than `after_s` is not watched.
    """
    now_ms = store.clock.now_ms()
    ticks = {one.position_id: one for one in last_ticks(store)}
    found = {}
    for row in store.carry.positions():
        if row.status in LIVE or now_ms - (row.closed_ms or 0) < ENDED_MS:
            last = store.carry.last_snapshot(row.position_id)
            found[row.position_id] = _words(row, last, ticks.get(row.position_id), after_s)
    return found


def whose(store: Store, subject: str, settings: Settings) -> tuple[str, str] | None:
    """The account of the fleet that an alert of this subject concerns, and what of it besides; None where it is none's."""
    plain, member = member_of(subject)
    if member:
        return member, plain
    position = store.carry.find_position(subject) if subject else None
    return None if position is None else (settings.account_of(position.short_account) or subject, "")


def _words(row: Position, last: PositionSnapshot | None, tick: LastTick | None, after_s: float) -> str:
    size = "" if row.size_usd is None else f", {row.size_usd:,.2f} USD"
    parts = [f"{row.status} · {row.asset} {row.leverage.normalize():f}x{size}"]
    if row.closed_ms is not None:
        parts.append(f"closed: {row.close_reason or 'no reason noted'}")
        return "\n".join(parts)
    if last is not None:
        room = [
            f"{leg} {getattr(last, f'{leg}_liquidation_distance') * 100:.1f} %"
            for leg in ("long", "short")
            if getattr(last, f"{leg}_liquidation_distance") is not None
        ]
        parts.append(f"room to liquidation: {', '.join(room) or 'not read'}")
        if last.equity_usd is not None:
            parts.append(f"equity {last.equity_usd:,.2f} USD")
        if last.delta_sol is not None:
            parts.append(f"long less short {last.delta_sol:+.4f} SOL")
    if tick is not None:
        late = tick.is_overdue(after_s)
        parts.append(f"nobody has looked for {tick.age_s / 60:.0f} min" if late else "watched")
    return "\n".join(parts)
