"""`store.hedging`, what a person settles: shares that the broker has more or less of than our orders say, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select

from evenkeel.types import IntentState, Receipt
from state.columns import plain_json
from state.database import AnyFence, Database, log_move, values_of
from state.hedging.amounts import ZERO, plus
from state.hedging.booking import HEDGES
from state.hedging.models import HedgeFill
from state.hedging.moving import locked, move_by_hedge
from state.hedging.sent import BUSINESS
from state.intents import INTENTS

SETTLED = "settled"
"""The kind of such an intent. It is CONFIRMED from its first row on: nothing of it was ever sent."""


@dataclass(frozen=True)
class SettledShares:
    """Shares that count as bought or sold at the broker for `usd`, from zero. `ref`: the broker's order that they correct."""

    side: str
    qty: Decimal
    usd: Decimal
    ref: str = ""


class Settlements(Database):
    """The part of the hedging store that books what a person says of the broker."""

    def settle(
        self, symbol: str, venue: str, rows: Sequence[SettledShares], why: str, fence: AnyFence = None
    ) -> str:
        """Book shares that no order of ours explains, move the exposure by them, and return the name of what was settled: all
        or nothing. `why` says who did it for which reason, and stays in the audit log.
        """
        now = self.clock.now_ms()
        with self._write(fence) as db:
            locked(db, symbol, now)
            mine = (INTENTS.c.business == BUSINESS, INTENTS.c.subject == symbol, INTENTS.c.kind == SETTLED)
            step = int(db.execute(select(func.max(INTENTS.c.step)).where(*mine)).scalar() or 0) + 1
            name = f"{SETTLED}-{symbol}-{step}"
            shares = usd = ZERO
            order = {"rows": [[one.side, str(one.qty), str(one.usd), one.ref] for one in rows], "why": why}
            sums = Receipt(ref=name, done_qty=ZERO, avg_price_usd=None, settled_ms=now)
            values = {
                "intent_id": name,
                "business": BUSINESS,
                "subject": symbol,
                "part": "",
                "venue": venue,
                "kind": SETTLED,
                "step": step,
                "state": IntentState.CONFIRMED,
                "order": plain_json(order),
                "note": {},
                "attempts": 0,
                "result": plain_json(sums.model_dump(mode="json")),
                "created_ms": now,
                "updated_ms": now,
            }
            db.execute(INTENTS.insert().values(**values))
            log_move(db, "intent", name, "", IntentState.CONFIRMED, note=why, at_ms=now, fence=fence)
            for one in rows:
                shares, usd = plus(shares, one.qty), plus(usd, one.usd)
                row = HedgeFill(
                    intent_id=name,
                    symbol=symbol,
                    side=one.side,
                    venue=venue,
                    order_ref=one.ref or name,
                    cumulative=shares,
                    cumulative_usd=usd,
                    qty=one.qty,
                    usd=one.usd,
                    at_ms=now,
                    recorded_ms=now,
                )
                db.execute(HEDGES.insert().values(**values_of(row)))
                move_by_hedge(db, row, now)
        return name
