"""A desk in front of running twins: the product's stories on one side, the venues' own ledgers on the other.

What a test asserts comes from the twins' ledgers, never from our database alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from app.demo.environment import write_settings
from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.settings.settings import load_settings
from evenkeel.types import IntentState
from flows.carry.enter import EnterRequest, EnterResult, enter_position
from flows.carry.monitor import MonitorRequest, MonitorResult, watch_position
from flows.carry.recover import RecoverResult, recover_everything
from tasks.carry.desk import CarryDesk, open_desk
from tests.at_hand import keep_at_hand
from tests.databases import make_ledger
from tests.twins_rig import TwinsRig, twins_in_thread
from tests.worlds import flat_world
from twins.hyperliquid.book import Level
from twins.serve import TwinOptions

HOUR_MS = 3_600_000
ORDER = "exchange:order"
OPEN_SUBMIT = "POST /submit-create-position-tx"
STRATEGY: dict[str, Any] = {"deployment_pct": "0.2"}
NO_RESERVE: dict[str, Any] = {"wallet_kept_usd": "1000000000"}
"""A weak long is not mended from the wallet: it can only be made smaller."""


@dataclass
class Rig(TwinsRig):
    """One funded account on each venue, and the desks that trade them."""

    config: Path
    desks: list[CarryDesk] = field(default_factory=list)

    def funding_was(self, premium: float) -> None:
        """Let the market stand at this premium, now and in all the hours that were settled before the world began."""
        self.market(premium=premium)
        self.world.series.hourly_premium = premium  # type: ignore[attr-defined]
        for desk in self.desks:
            desk.expected_funding.clear()

    # --- what the venues hold, by their own books ---

    @property
    def address(self) -> str:
        return str(self.twins.keys["hyperliquid"]["account_address"]).lower()

    def account(self) -> dict[str, Any]:
        """Our account in the Hyperliquid twin's ledger."""
        return dict(self.control("hyperliquid", "ledger")["accounts"][self.address])

    def short_qty(self) -> Decimal:
        """SOL that the perpetual account is short."""
        return -sum((Decimal(row["szi"]) for row in self.account()["positions"]), Decimal(0))

    def holdings(self) -> list[dict[str, Any]]:
        """Lending positions that hold something."""
        return [one for one in self.control("asgard", "ledger")["positions"] if one["live"]]

    def long_sol(self) -> Decimal:
        """SOL exposure of every lending position at redemption value."""
        return sum(
            (
                Decimal(one["tokens"]) * Decimal(str(self.world.redemption_rate(one["symbol"])))
                for one in self.holdings()
            ),
            Decimal(0),
        )

    def opened_longs(self) -> int:
        """Lending positions ever opened."""
        return len(self.control("asgard", "ledger")["positions"])

    def executions(self) -> list[dict[str, Any]]:
        """Every landed change of a lending position."""
        return [
            row for one in self.control("asgard", "ledger")["positions"] for row in one["position_accounting"]
        ]

    def filled_orders(self) -> list[dict[str, Any]]:
        """Orders of the perpetual that filled at least in part, one row each with the summed size."""
        rows: dict[int, dict[str, Any]] = {}
        for fill in self.account()["fills"]:
            row = rows.setdefault(
                fill["oid"],
                {"oid": fill["oid"], "side": fill["side"], "sz": Decimal(0), "time": fill["time"]},
            )
            row["sz"] += Decimal(fill["sz"])
        return list(rows.values())

    def sells(self) -> list[dict[str, Any]]:
        return [row for row in self.filled_orders() if row["side"] == "A"]

    @property
    def flat(self) -> bool:
        """Neither venue holds anything."""
        return not self.account()["positions"] and not self.holdings()

    def fingerprint(self) -> tuple[Any, ...]:
        """Everything that an order, a transfer or a transaction would change."""
        account = self.account()
        landed = len(self.control("solana", "ledger")["transactions"])
        return (
            len(account["orders"]),
            len(account["fills"]),
            account["cash_usd"],
            landed,
            self.opened_longs(),
            self.calls("hyperliquid", "exchange:order"),
            self.calls("hyperliquid", "exchange:updateLeverage"),
            self.calls("asgard", OPEN_SUBMIT),
            self.calls("solana", "rpc:sendTransaction"),
        )

    def set_usdc(self, venue: str, amount: int) -> None:
        """What the account holds free on one venue: more or less than it was funded with."""
        if venue == "solana":
            wallet = Pubkey.from_string(self.twins.keys["solana"]["address"])
            usdc = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
            self.on_twins(lambda: self.twins.chain.set_token_balance(wallet, usdc, amount * 10**6))
            self.later(20)
            return
        engine, worth = self.twins.hyperliquid.engine, Decimal(self.account()["account_value_usd"])

        def move() -> None:
            account = engine.accounts[self.address]
            drop = worth - amount
            assert drop > 1, "the account can only be drained"
            account.raw_usd -= drop
            engine.book_ledger(account, {"type": "withdraw", "usdc": str(drop - 1), "nonce": 1, "fee": "1.0"})

        self.on_twins(move)

    def fund(self, amount: str) -> None:
        """Somebody deposits so many USDC for our account on Hyperliquid."""
        engine = self.twins.hyperliquid.engine
        self.on_twins(lambda: engine.deposit(self.address, Decimal(amount)))

    def trade_by_hand(self, coin: str, signed: str, cloid: str | None = None) -> None:
        """Somebody trades on our account with the venue's own interface; below zero is a sale. With the `cloid` of an order
        of ours it is that order, executed when nobody reckoned with it any more.
        """
        engine, qty = self.twins.hyperliquid.engine, Decimal(signed)

        def trade() -> None:
            part = Level(engine.market.mark(coin, engine.now_ms), abs(qty))
            account, oid = engine.accounts[self.address], engine.next_oid()
            engine.fill(account, coin, qty > 0, [part], oid=oid, crossed=True, cloid=cloid)

        self.on_twins(trade)

    # --- the product ---

    @property
    def desk(self) -> CarryDesk:
        return self.desks[0]

    @asynccontextmanager
    async def another_desk(self) -> AsyncIterator[CarryDesk]:
        """What a fresh process would work at: nothing shared but settings and ledger."""
        async with open_desk(load_settings(self.config)) as desk:
            keep_at_hand(desk, self.twins, self.loop)
            yield desk

    async def enter(self, **request: Any) -> EnterResult:
        return await enter_position(self.desk, EnterRequest(**request))

    async def entered(self, **request: Any) -> str:
        """An open position; its id."""
        result = await self.enter(**request)
        assert result.status == "OPEN", result
        assert result.position_id is not None
        return result.position_id

    async def recovered(self) -> RecoverResult:
        """A new desk recovers what the old one left."""
        async with self.another_desk() as desk:
            await desk.clock.refresh()
            return await recover_everything(desk)

    def status(self, position_id: str) -> PositionStatus:
        return self.desk.store.carry.position(position_id).status

    def intents(self, leg: LegSide, kind: IntentKind, state: IntentState | None = None) -> int:
        return sum(
            1
            for position in self.desk.store.carry.positions()
            for one in self.desk.store.intents_of(CARRY, position.position_id)
            if one.part == leg and one.kind == kind and state in (None, one.state)
        )

    def assert_hedged(self, tolerance: str = "0.005") -> None:
        """Both venues hold the same SOL exposure, by their own books."""
        long, short = self.long_sol(), self.short_qty()
        assert long > 0 and short > 0
        assert abs(long - short) <= Decimal(tolerance), (long, short)

    def assert_clean(self, found: RecoverResult) -> None:
        """After a recovery: nothing unowned, nothing unfinished, nothing unreadable."""
        assert found.clean, found
        assert found.unfinished_intents == 0


async def watched(rig: Rig, position_id: str, seconds: float) -> MonitorResult:
    """Let the monitor watch for so long, of world time."""
    await rig.desk.clock.refresh()
    until_ms = rig.desk.clock.now_ms() + int(seconds * 1000)
    return await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))


@asynccontextmanager
async def story_rig(
    folder: Path,
    *,
    strategy: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    **market: float,
) -> AsyncIterator[Rig]:
    """Twins on a standing, stepped market; an upgraded ledger; one desk."""
    world = flat_world(**market)
    with twins_in_thread(TwinOptions(stepped=True), world) as (twins, loop):
        config = write_settings(folder, twins.announcement(), STRATEGY | (strategy or {}), "")
        if limits:
            lines = "\n".join(f'{name} = "{value}"' for name, value in limits.items())
            config.write_text(f"{config.read_text()}\n[limits]\n{lines}\n")
        settings = load_settings(config)
        make_ledger(settings.database.url)
        rig = Rig(twins, loop, config)
        rig.later(20)  # balances just put there become visible at every commitment
        async with open_desk(settings) as desk:
            keep_at_hand(desk, twins, loop)
            rig.desks.append(desk)
            yield rig
