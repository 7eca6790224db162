"""How the watch sets stops at a venue: what is guarded there, where its stop is to stand, and how it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from state.accounts.many import OSTIUM, OpenTrade
from state.accounts.models import AccountTrade
from state.accounts.store import AccountsStore
from state.models import Fence
from strategy.accounts.stops import PRICE_STEP, StopRules, TradeSeen, wanted_stop
from tasks.accounts.trading import leave_by_stop, set_stop
from tasks.desk import Desk

Guarded = AccountTrade | OpenTrade
T = TypeVar("T", AccountTrade, OpenTrade)


class Stops(Protocol[T]):
    """One venue's. Raises LostRace for a trade that has ended, UNREAD where the venue cannot be asked."""

    venue: str

    def guarded(self, accounts: AccountsStore) -> Sequence[T]:
        """Every trade there that is OPEN or CLOSING, with what its stop is judged by."""
        ...

    def may_set(self, trade: T) -> bool:
        """Whether its stop is ours to set now."""
        ...

    def wanted(self, trade: T, best: Decimal, rules: StopRules) -> Decimal | None:
        """Where its stop is to stand from now on, as the venue keeps prices, after this best price; None where it stands well
        enough.
        """
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

    def guarded(self, accounts: AccountsStore) -> Sequence[OpenTrade]:
        return accounts.open_trades()

    def may_set(self, trade: OpenTrade) -> bool:
        return trade.deployment_id is not None

    def wanted(self, trade: OpenTrade, best: Decimal, rules: StopRules) -> Decimal | None:
        seen = TradeSeen(
            is_long=trade.is_long,
            open_price=trade.open_price or best,
            leverage=trade.leverage,
            collateral_usdc=trade.collateral_usdc,
            paid_usdc=trade.paid_usdc,
            costs_usdc=Decimal(0),
            best_price=best,
            stop=trade.stop,
        )
        stop = wanted_stop(seen, rules)
        return None if stop is None else stop.quantize(PRICE_STEP)

    async def set(
        self, desk: Desk, trade: AccountTrade, stop: Decimal, price: Decimal, fence: Fence | None
    ) -> None:
        await set_stop(desk, trade, stop, fence, wait_s=0)

    async def leave(self, desk: Desk, trade: AccountTrade, price: Decimal, fence: Fence | None) -> None:
        await leave_by_stop(desk, trade, price, fence)
