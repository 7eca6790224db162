"""Carry's part of the ledger: `store.carry`. Positions, legs, lending changes, funding, snapshots, liquidations."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, Engine

from evenkeel.clock import Clock
from evenkeel.legs import CARRY
from evenkeel.types import IntentSpec
from state.carry.ledger import CarryLedger
from state.carry.liquidations import Liquidations
from state.carry.positions import Positions, refuse_ended


class CarryStore(Positions, CarryLedger, Liquidations):
    """What only the carry trade keeps; its intents, fills, fees and breaches are the core's, under the name `CARRY`."""

    name = CARRY

    def __init__(self, engine: Engine, clock: Clock, accounts: Collection[str] | None = None) -> None:
        super().__init__(engine, clock)
        self.accounts = None if accounts is None else frozenset(accounts)
        """Whose positions `positions` lists: those of these accounts; None: everybody's."""

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        """Raise LostRace for a position that has ended, Bug for one that is not stored."""
        refuse_ended(db, spec.subject)
