"""A person has seen an alert: who, when and why goes to the audit log."""

from __future__ import annotations

from sqlalchemy import select, update

from state.database import Database, log_move
from state.watch import ALERTS
from state.watch_models import Alert


class Acknowledgements(Database):
    """What is news stays open until somebody says that it was read."""

    def acknowledge(self, kind: str, subject: str | None, note: str) -> list[Alert]:
        """Close the open alerts of a kind, of one subject or of all, with a line in the audit log for each; those closed.

        Different from `ack_alert`, by which a condition that is over closes its own alert without a trace.
        """
        now = self.clock.now_ms()
        wanted = [ALERTS.c.kind == kind, ALERTS.c.acked_ms.is_(None)]
        if subject is not None:
            wanted.append(ALERTS.c.subject == subject)
        with self._write() as db:
            query = select(ALERTS).where(*wanted).order_by(ALERTS.c.id).with_for_update()
            found = [Alert.model_validate(dict(row._mapping)) for row in db.execute(query)]
            for row in found:
                db.execute(update(ALERTS).where(ALERTS.c.id == row.id).values(acked_ms=now))
                name = f"{row.kind}/{row.subject}" if row.subject else row.kind
                log_move(db, "alert", name, "open", "acknowledged", note=note, at_ms=now, fence=None)
        return found
