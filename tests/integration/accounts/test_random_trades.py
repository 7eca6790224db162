"""Trades drawn by chance, of agents and of users themselves: what the books say of them is what the wallets show, to the unit.

`EVENKEEL_TRADES` sets how many (30 here, 500 in the long run), `EVENKEEL_SEED` which.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evenkeel.errors import EvenkeelError
from state.accounts.models import AccountTrade, Origin, TradeState
from state.accounts.store import ACCOUNTS
from strategy.accounts.share import ChargeState
from tasks.accounts.statement import statement
from tasks.accounts.trading import close_trade, open_trade
from tasks.accounts.waiting import is_waiting, withdraw
from tests.accounts_rig import SOL
from tests.accounts_watch_rig import WatchRig, watch_rig
from tests.evm_rig import MILLION
from venues.ostium.contracts import NO_BUILDER

HOW_MANY = int(os.environ.get("EVENKEEL_TRADES", "30"))
SEED = int(os.environ.get("EVENKEEL_SEED", "20261130"))
WEI = 10**18
MARKET, LIMIT, STOP = 0, 1, 2
MOST_HELD = 7
"""Of one user at a time: the venue takes ten in a market."""
JUMPS = ("-0.06", "-0.012", "-0.012", "-0.004", "0.004", "0.012", "0.012", "0.06")


@dataclass
class Story:
    """What is drawn, and what has become of it. `price`: SOL's now, USD."""

    found: WatchRig
    chance: Random
    price: Decimal = Decimal(150)
    asked: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> list[str]:
        return self.found.rig.users

    def move(self, share: str) -> None:
        """The market jumps, and comes back to where it began in the long run."""
        moved = self.price * (1 + Decimal(share))
        self.price = (moved if 110 < moved < 200 else Decimal(150)).quantize(Decimal("0.01"))
        self.found.move(str(self.price))

    def rows(self, *states: TradeState) -> list[AccountTrade]:
        return self.found.store.accounts.trades(*states)

    def by_user(self, user: str, function: str, *values: Any) -> None:
        """What a user does with his own wallet; the venue may refuse it."""
        try:
            self.found.rig.venue.send("trading", function, *values, sender=user)
        except RuntimeError:
            self.refused[function] += 1

    async def by_desk(self, doing: Callable[[], Any]) -> None:
        """What the desk is asked for; it may be refused before anything is sent."""
        try:
            await doing()
        except EvenkeelError as why:
            self.refused[type(why).__name__] += 1

    # --- openings ---

    async def open_some(self, most: int) -> None:
        """One opening of each user who has room, drawn by chance, until so many were asked for in all."""
        held = Counter(
            one.account for one in self.rows(TradeState.PENDING, TradeState.OPEN, TradeState.CLOSING)
        )
        await self.found.desk.second.refresh()
        for place, user in enumerate(self.users):
            if self.asked < most and held[user] < MOST_HELD:
                self.asked += 1
                await self._open(place, user)

    async def _open(self, place: int, user: str) -> None:
        is_long, kind = self.chance.random() < 0.5, self.chance.choice([MARKET] * 4 + [LIMIT, STOP])
        usdc, leverage = self.chance.randint(10, 30), self.chance.choice([2, 3, 5, 10, 20])
        away = Decimal(0) if kind == MARKET else Decimal(self.chance.choice(["0.003", "0.01"]))
        way = -1 if (kind == LIMIT) == is_long else 1
        price = (self.price * (1 + way * away)).quantize(Decimal("0.01"))
        slippage = 0 if kind != MARKET else self.chance.choice([1, 100, 100, 100])  # the first slips
        if self.chance.random() < 0.4:
            terms = (usdc * MILLION, int(price * WEI), 0, 0, user, leverage * 100, SOL, 0, is_long, False)
            self.by_user(user, "openTrade", terms, NO_BUILDER, kind, slippage)
            return
        order = {
            "pair": SOL,
            "is_long": is_long,
            "collateral_usdc": str(usdc),
            "leverage": str(leverage),
            "type": kind,
            "price": str(price),
            "slippage_bps": slippage,
        }
        core, name = self.found.desk.desk, f"t{self.asked}"
        await self.by_desk(lambda: open_trade(core, f"d{place}", order, name=name, wait_s=0))

    # --- what happens to them ---

    async def touch(self, row: AccountTrade) -> None:
        """Something happens to a trade, by the desk or by its user."""
        user = next(one for one in self.users if one.lower() == row.account)
        wei, draw = int(self.price * WEI), self.chance.random()
        if is_waiting(row):
            if draw < 0.3:
                self.by_user(user, "cancelOpenLimitOrder", SOL, row.place)
            elif draw < 0.5 and row.origin is Origin.DESK:
                await self.by_desk(lambda: withdraw(self.found.desk.desk, row.name, wait_s=0))
        elif row.state is not TradeState.OPEN:
            return
        elif draw < 0.2:
            share = self.chance.choice(["0.25", "0.3333", "0.5"])
            await self.close(row, user, Decimal(share))
        elif draw < 0.45:
            await self.close(row, user, Decimal(1))
        elif draw < 0.52:
            self.by_user(user, "topUpCollateral", SOL, row.place, self.chance.randint(1, 9) * MILLION)
        elif draw < 0.59:
            self.by_user(user, "removeCollateral", SOL, row.place, self.chance.randint(1, 4) * MILLION)
        elif draw < 0.66:
            away = Decimal("0.995") if row.is_long else Decimal("1.005")
            self.by_user(user, "updateSl", SOL, row.place, int(self.price * away * WEI))
        elif draw < 0.7 and row.origin is Origin.DESK:
            self.by_user(user, "closeTradeMarket", SOL, row.place, 10_000, wei, 200)

    async def close(self, row: AccountTrade, user: str, share: Decimal) -> None:
        if row.origin is Origin.USER:
            wei = int(self.price * WEI)
            self.by_user(user, "closeTradeMarket", SOL, row.place, int(share * 10_000), wei, 200)
            return
        await self.found.desk.second.refresh()
        core = self.found.desk.desk
        await self.by_desk(lambda: close_trade(core, row.name, self.price, 200, share=share))

    async def round(self, most: int) -> None:
        """Openings, a while, what happens to some of what is there, a jump of the price, a while."""
        await self.open_some(most)
        await self.found.ticked(2)
        for row in self.rows(TradeState.PENDING, TradeState.OPEN, TradeState.STALE):
            if self.chance.random() < 0.5:
                await self.touch(row)
        if (
            self.chance.random() < 0.2
        ):  # what the price reaches waits, and is closed by order beyond its liquidation
            self.found.fault("silent_keeper", "trigger:.*")
            self.move(self.chance.choice(JUMPS))
            for row in self.rows(TradeState.OPEN):
                if self.chance.random() < 0.3:
                    user = next(one for one in self.users if one.lower() == row.account)
                    await self.close(row, user, Decimal(1))
            await self.found.ticked(2)
            self.found.faults.clear()
        self.move(self.chance.choice(JUMPS))
        await self.found.ticked(2)

    async def silence(self, most: int) -> None:
        """Nobody settles what is asked for, until it is taken back."""
        self.found.fault("silent_keeper", "answer:market_.*")
        await self.open_some(most)
        for row in self.rows(TradeState.OPEN)[:2]:
            user = next(one for one in self.users if one.lower() == row.account)
            await self.close(row, user, Decimal(1))
        await self.found.ticked(4, 30)
        for user in self.users:
            for order in self.found.rig.venue.read("storage", "getPendingOrderIds", user):
                self.by_user(user, "openTradeMarketTimeout", order)
                self.by_user(user, "closeTradeMarketTimeout", order, self.chance.random() < 0.5)
        self.found.faults.clear()
        await self.found.ticked(2)

    async def end(self) -> None:
        """Close what is left, until nothing is."""
        live = (TradeState.PENDING, TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
        for _ in range(30):
            for row in self.rows(*live):
                user = next(one for one in self.users if one.lower() == row.account)
                if is_waiting(row):
                    self.by_user(user, "cancelOpenLimitOrder", SOL, row.place)
                elif row.state is TradeState.OPEN and not self.found.store.unfinished_intents(
                    ACCOUNTS, row.name
                ):
                    await self.close(row, user, Decimal(1))
            await self.found.ticked(2)
            if not self.rows(*live) and not self.found.store.unfinished_intents(ACCOUNTS):
                return
        raise AssertionError([(one.name, one.state) for one in self.rows(*live)])


def wallets(found: WatchRig) -> dict[str, Decimal]:
    return {one: Decimal(found.rig.evm.balance(one)) / MILLION for one in found.rig.users}


@pytest.mark.timeout(max(300, HOW_MANY * 10))
async def test_what_is_booked_is_what_the_wallets_show_and_a_second_pass_books_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        found.watcher.standing_every_ms, found.watcher.check_every = 60_000, 10**6
        before, accounts, story = wallets(found), found.store.accounts, Story(found, Random(SEED))
        rounds = 0
        while story.asked < HOW_MANY:
            rounds += 1
            await (story.silence if rounds % 5 == 2 else story.round)(HOW_MANY)
        await story.end()
        await found.ticked(3, 30)
        assert not found.watcher.done.failed

        settled, charges = accounts.settlements(), accounts.charges()
        for user, was in before.items():
            own = user.lower()
            mine = [one for one in settled if one.account == own and one.is_live]
            booked = sum((one.profit_usdc or Decimal(0) for one in mine), Decimal(0))
            taken = sum(
                (one.usdc for one in charges if one.account == own and one.state == ChargeState.COLLECTED),
                Decimal(0),
            )
            changed = wallets(found)[user] - was
            assert abs(booked - taken - changed) < Decimal("0.000001"), (user, booked, taken, changed)
            said = statement(found.store, own, found.settings.ostium.markets)
            assert abs(Decimal(said["total_usdc"]) - changed) < Decimal("0.000001"), user
        got = Decimal(found.rig.evm.balance(found.settings.collector.platform_wallet)) / MILLION
        assert got == sum((one.usdc for one in charges if one.state == ChargeState.COLLECTED), Decimal(0))

        kinds = Counter(f"{one.kind}: {one.why}" if one.why else one.kind for one in settled)
        for kind in ("opened", "closed: market", "closed: stop"):
            assert kinds[kind], kinds
        if HOW_MANY >= 500:
            wanted = ("closed: liquidation", "open cancelled: slippage", "open cancelled: no keeper settled it in time",
                      "placed: limit", "placed: stop", "withdrawn", "topped up", "collateral removed")  # fmt: skip
            assert not [one for one in wanted if not kinds[one]], kinds
        if "EVENKEEL_TRADES" in os.environ:
            print(
                f"\n{HOW_MANY} trades, seed {SEED}, {rounds} rounds: {kinds.most_common()}; refused {story.refused}"
            )

        rows = settled, charges, accounts.trades(), found.store.intent_counts()
        sent = found.rig.evm.calls("eth_sendRawTransaction")
        found.store.move_checkpoint("accounts:421614", found.rig.evm.clock.now_ms(), {"marks": []})
        await found.ticked(3)
        assert rows == (
            accounts.settlements(),
            accounts.charges(),
            accounts.trades(),
            found.store.intent_counts(),
        )
        assert found.rig.evm.calls("eth_sendRawTransaction") == sent
