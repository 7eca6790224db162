"""Carry commands as real processes, and what the venues' own ledgers say of the trading account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.carry.rig import NO_RESERVE
from tests.chaos.commands import CommandRig, command_rig


class CarryRig(CommandRig):
    """Commands of the carry trade against fresh twins."""

    def hyperliquid(self) -> dict[str, Any]:
        """The twin's own books of the trading account."""
        account = self.twins.keys["hyperliquid"]["account_address"].lower()
        dump = self.twins.hyperliquid.control("ledger", {})
        return dict(dump["accounts"][account])

    def short_qty(self) -> Decimal:
        """SOL that the account is short at the venue; a long position counts below zero."""
        held = [p for p in self.hyperliquid()["positions"] if p["coin"] == "SOL"]
        return -Decimal(held[0]["szi"]) if held else Decimal(0)

    def asgard(self) -> dict[str, Any]:
        """The lender's own books."""
        return self.twins.asgard.control("ledger", {})


@asynccontextmanager
async def carry_rig(folder: Path) -> AsyncIterator[CarryRig]:
    """A fresh market, funded accounts and an empty ledger."""
    strategy = {"deployment_pct": "0.5", "leverage": 3} | NO_RESERVE
    async with command_rig(CarryRig, folder, strategy) as rig:
        yield rig
