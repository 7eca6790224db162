"""Carry's part of the ledger: `store.carry`. Positions, legs, lending changes, funding, snapshots, liquidations."""

from __future__ import annotations

from sqlalchemy import Connection

from evenkeel.legs import CARRY
from evenkeel.types import IntentSpec
from state.carry.ledger import CarryLedger
from state.carry.liquidations import Liquidations
from state.carry.positions import Positions, refuse_ended


class CarryStore(Positions, CarryLedger, Liquidations):
    """What only the carry trade keeps; its intents, fills, fees and breaches are the core's, under the name `CARRY`."""

    name = CARRY

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        """Raise LostRace for a position that has ended, Bug for one that is not stored."""
        refuse_ended(db, spec.subject)
