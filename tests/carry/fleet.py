"""Several accounts on one ledger in front of one world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.demo.environment import write_settings
from evenkeel.settings.settings import load_settings
from state.store import Store
from tasks.carry.desk import CarryDesk, open_desks
from tests.at_hand import keep_at_hand
from tests.carry.rig import STRATEGY, Rig, flat_world, twins_in_thread
from tests.databases import make_ledger
from twins.serve import TwinOptions


class FleetRig(Rig):
    """A rig with a desk for each account."""

    def of(self, name: str) -> CarryDesk:
        return next(one for one in self.desks if one.store.member == name)

    @property
    def whole(self) -> Store:
        return self.desk.store.whole

    def shorts(self) -> dict[str, Decimal]:
        """SOL that each account is short, by the venue."""
        accounts = self.control("hyperliquid", "ledger")["accounts"]
        return {
            desk.store.member: -sum(
                (Decimal(row["szi"]) for row in accounts[desk.short.address]["positions"]), Decimal(0)
            )
            for desk in self.desks
        }


@asynccontextmanager
async def fleet_rig(
    folder: Path,
    accounts: int = 2,
    *,
    strategy: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    speed: float | None = None,
    database_url: str = "",
    **market: float,
) -> AsyncIterator[FleetRig]:
    """Twins with several funded accounts, one upgraded ledger, a desk an account. Time is stepped, or passes with this `speed`.
    The ledger is a file, or at `database_url`.
    """
    world = flat_world(stepped=speed is None, speed=speed or 1.0, **market)
    options = TwinOptions(stepped=speed is None, accounts=accounts)
    with twins_in_thread(options, world) as (twins, loop):
        announced = twins.announcement()
        keys = announced["keys"]
        as_fleet = announced | {"keys": {"fleet": [keys]} | keys}
        config = write_settings(folder, as_fleet, STRATEGY | (strategy or {}), "")
        if database_url:
            text = config.read_text()
            own = next(line for line in text.splitlines() if line.startswith('url = "sqlite'))
            config.write_text(text.replace(own, f'url = "{database_url}"', 1))
        if limits:
            lines = "\n".join(f'{name} = "{value}"' for name, value in limits.items())
            config.write_text(f"{config.read_text()}\n[limits]\n{lines}\n")
        settings = load_settings(config)
        make_ledger(settings.database.url)
        rig = FleetRig(twins, loop, config)
        rig.later(20)
        async with open_desks(settings) as desks:
            keep_at_hand(desks[0], twins, loop)
            rig.desks += desks
            yield rig
