"""What a person is to read of a position's moves."""

from __future__ import annotations

from sqlalchemy import Connection

from evenkeel.legs import PositionStatus
from state.carry.models import Position
from state.outbox import announce
from state.outbox_models import MessageKind
from state.watch_models import Severity

_SAYS = {
    PositionStatus.OPENING: "is being opened",
    PositionStatus.OPEN: "is open: both legs are held",
    PositionStatus.CLOSING: "is being closed",
    PositionStatus.UNWINDING: "is not completed: what was opened of it is closed again",
    PositionStatus.CLOSED: "is closed: nothing is held",
    PositionStatus.FAILED: "was given up: nothing is held",
}
_UNHAPPY = (PositionStatus.UNWINDING, PositionStatus.FAILED)


def announce_move(db: Connection, row: Position, from_: str, note: str, at_ms: int) -> None:
    """Write the message of a move that `row` has just made, in its transaction."""
    size = "" if row.size_usd is None else f", {row.size_usd:,.2f} USD"
    what = f"{row.asset} {row.leverage.normalize():f}x{size} {_SAYS[row.status]}"
    why = "; ".join(dict.fromkeys(one for one in (row.close_reason, note) if one))
    announce(
        db,
        key=f"position/{row.position_id}/{at_ms}/{from_ or 'NEW'}-{row.status}",
        thread=row.position_id,
        kind=MessageKind.SUBJECT,
        about=row.status,
        subject=row.position_id,
        severity=Severity.WARNING if row.status in _UNHAPPY else Severity.INFO,
        text=f"{what} ({why})" if why else what,
        facts={
            "from": from_,
            "to": row.status,
            "asset": row.asset,
            "leverage": row.leverage,
            "size_usd": row.size_usd,
        },
        at_ms=at_ms,
    )
