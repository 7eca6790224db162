"""How the watch sets stops at a venue: what is guarded there, where its stop is to stand, and how it is asked for."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from state.accounts.models import AccountTrade
from state.models import Fence
from strategy.accounts.stops import PRICE_STEP, StopRules, wanted_stop
from tasks.accounts.trading import OSTIUM, leave_by_stop, seen, set_stop
from tasks.desk import Desk


class Stops(Protocol):
    """One venue's. Raises LostRace for a trade that has ended, UNREAD where the venue cannot be asked."""

    venue: str

    def may_set(self, trade: AccountTrade) -> bool:
        """Whether its stop is ours to set now."""
        ...

    def wanted(self, trade: AccountTrade, price: Decimal, rules: StopRules) -> Decimal | None:
        """Where its stop is to stand from now on, as the venue keeps prices; None where it stands well enough."""
        ...

    async def set(
        self, desk: Desk, trade: AccountTrade, stop: Decimal, price: Decimal, fence: Fence | None
    ) -> None:
        """Ask for it. `price` is the market's."""
        ...

    async def leave(self, desk: Desk, trade: AccountTrade, price: Decimal, fence: Fence | None) -> None:
        """Go on with the close of a trade that is CLOSING."""
        ...


class OstiumStops:
    """Of trades that the agent opened; those of users are theirs."""

    venue = OSTIUM

    def may_set(self, trade: AccountTrade) -> bool:
        return trade.deployment_id is not None

    def wanted(self, trade: AccountTrade, price: Decimal, rules: StopRules) -> Decimal | None:
        stop = wanted_stop(seen(trade), rules)
        return None if stop is None else stop.quantize(PRICE_STEP)

    async def set(
        self, desk: Desk, trade: AccountTrade, stop: Decimal, price: Decimal, fence: Fence | None
    ) -> None:
        await set_stop(desk, trade, stop, fence, wait_s=0)

    async def leave(self, desk: Desk, trade: AccountTrade, price: Decimal, fence: Fence | None) -> None:
        await leave_by_stop(desk, trade, price, fence)
