"""Rebalancing before its twins: an account of the Broker's, the order book with our key, the issuer and the bridge between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from state.hedging.models import Rebalance, RebalanceState
from tasks.hedging.passing import pass_once
from tasks.hedging.rebalancing.carrying import TO_BRIDGE, advance, bridged, decide, resume, unsent
from tasks.hedging.rebalancing.desk import RebalanceDesk, rebalance_desk
from tasks.hedging.rebalancing.proposing import Proposed, propose
from tests.hedging_rig import HELD, HedgingRig, hedging_rig
from tests.hedging_settings import environment
from twins.alpaca.records import Account
from twins.issuer import Issuer
from twins.raindex.market import STOCK_VAULT, USDC_VAULT
from twins.raindex.wallets import WALLET

OWNER_KEY = bytes.fromhex("3c" * 32)
D = Decimal
BRIDGE_FEE, CASH = D("0.1"), D(1_000_000)


@dataclass
class RebalanceRig:
    """Everything a test touches. `rebalance` changes that section of the settings."""

    hedging: HedgingRig
    issuer: Issuer
    rebalance: dict[str, Any] = field(default_factory=dict)
    wrapped: set[str] = field(default_factory=set)
    crossed: set[str] = field(default_factory=set)
    """Whose USDC a person has brought over: where saying so fails, it is said again and not brought again."""

    @property
    def owner(self) -> str:
        return self.hedging.chain.market.owner

    def wrap(self, symbol: str) -> None:
        """Make a symbol's token a wrapper."""
        self.hedging.chain.control("wrap", {"symbol": symbol})
        self.wrapped.add(symbol)
        self.hedging.later(4)

    def fill_vault(self, symbol: str, tokens: str) -> None:
        """Tokens that are in our vault from the start. What is wrapped has its shares inside."""
        self.hedging.chain.market.move_vault(symbol, D(tokens))
        if symbol in self.wrapped:
            token = self.hedging.chain.market.tokens[symbol]
            self.hedging.chain.wallets.fund(token.address, token.inside, D(tokens))
        self.hedging.later(4)

    def settings(self) -> None:
        """Put the section into the settings that the next desk opens."""
        market, rig = self.hedging.chain.market, self.hedging
        symbols = ("AAPL", "MSFT", "NVDA", "TSLA")
        section = {
            "enabled": True,
            "confirmations": 2,
            "most_gas_gwei": "1",
            "most_usd": "1000000",
            "auto_usd_a_day": "1000000",
            "most_shares": dict.fromkeys(symbols, "1000"),
            "vaults": {**dict.fromkeys(symbols, 3), "USDC": "0x4"},
            "assets": {one: market.tokens[market.tokens[one].inside].address for one in self.wrapped},
            "redemption_wallet": self.issuer.redemption_wallet,
        }
        rig.settings["rebalance"] = section | self.rebalance
        rig.settings["symbols"] = {
            one: {
                "token": market.tokens[one].address,
                "most_shares": "100",
                "wrapped": one in self.wrapped,
            }
            for one in symbols
        }
        rig.settings["broker"] = "alpaca-broker"
        rig.alpaca["account_id"] = rig.keys["account_id"]

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[RebalanceDesk]:
        """What one process rebalances with."""
        self.settings()
        rig = self.hedging
        with keys_of_broker(rig.keys["broker"]):
            async with rebalance_desk(rig.given(), rig.clock, rig.store) as found:
                yield found

    async def read_chain(self) -> None:
        """A pass of the hedging, which reads the chain."""
        async with self.desk() as rd, rd.at.desk.exclusive(rd.at.lease, "hedging") as fence:
            await pass_once(rd.at, fence)

    async def propose(self) -> Proposed:
        await self.read_chain()
        async with self.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            return await propose(rd, fence)

    def approve(self, name: str) -> Rebalance:
        store = self.hedging.store
        return decide(store, name, "a person", approve=True, now_ms=self.hedging.clock.now_ms(), lapse_s=3600)

    async def usdc_approved(self) -> Rebalance:
        """A rebalance of dollars into the vault, approved: the wallet is known at the broker and nothing has moved."""
        self.fill_vault("USDC", "100000")
        async with self.desk() as rd:
            await rd.transfers.allow(rd.wallet)
        self.hedging.later(10)
        [row] = [one for one in (await self.propose()).rebalances if one.scope == "USDC"]
        return self.approve(row.name)

    async def go(self, name: str) -> Rebalance:
        """What a process that ends at once does: its lease, its desk, as far as it goes."""
        async with self.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            return await advance(rd, name, fence)

    async def cross(self, name: str) -> Rebalance:
        """What a person does: bring the USDC over, and say so."""
        row = self.row(name)
        sent = D(row.done["steps"][-1]["amount"])
        arrives = sent - BRIDGE_FEE
        if name not in self.crossed:
            self.crossed.add(name)
            way = self.issuer.cross if row.direction == "to-chain" else self.issuer.cross_back
            way(self.owner, sent, arrives)
        self.hedging.later(10)
        async with self.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            return await bridged(rd, name, arrives, "a person", fence)

    async def unsent(self, name: str) -> Rebalance:
        async with self.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            return await unsent(rd, name, "a person", "the broker says so", fence)

    async def to_the_end(self, name: str, goes: int = 60) -> Rebalance:
        """Go on until it is over; a person crosses the bridge where it is asked for."""
        for _ in range(goes):
            row = await self.go(name)
            if row.state.is_over or row.state is RebalanceState.STUCK:
                return row
            if (TO_BRIDGE, name) in self.alerts():
                await self.cross(name)
            self.hedging.later(10)
        raise AssertionError(f"{name} did not end: {self.row(name)}")

    async def resume(self, name: str) -> Rebalance:
        async with self.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            return resume(rd, name, "a person", fence)

    def by_journal(self) -> Account:
        """Let another account of the broker's have the wallets."""
        other = self.hedging.broker.engine.open_account(D(0))
        self.rebalance["wallet_account"] = self.issuer.account = other.id
        return other

    def everything(self, name: str) -> dict[str, Decimal]:
        """How much of a rebalance's scope is where: in shares or USDC."""
        scope = self.row(name).scope
        rig, market = self.hedging, self.hedging.chain.market
        if scope == "USDC":
            bought = sum((D(one["qty"]) for one in rig.account.fills if one["symbol"] == "USDCUSD"
                          and one["side"] == "buy"), D(0))  # fmt: skip
            sold = sum((D(one["qty"]) for one in rig.account.fills if one["symbol"] == "USDCUSD"
                        and one["side"] == "sell"), D(0))  # fmt: skip
            between = self.at_broker("USDCUSD") + sum(self.issuer.elsewhere.values(), D(0))
            return {"chain": self.on_chain("USDC"), "broker": sold - bought,
                    "wallet": self.on_chain("USDC", "wallet"), "between": between}  # fmt: skip
        inside = market.tokens[scope].inside or scope
        accounts = rig.broker.engine.accounts
        wallets = accounts[self.issuer.account].held(scope) if self.issuer.account != rig.account.id else D(0)
        return {
            "chain": self.on_chain(scope),
            "broker": self.at_broker(scope),
            "wallet": self.on_chain(inside, "wallet")
            + (self.on_chain(scope, "wallet") if inside != scope else D(0)),
            "between": wallets,
        }

    def changed_at_broker(self, scope: str) -> Decimal:
        """What the account that hedges has more than at its beginning, in shares or dollars."""
        if scope == "USDC":
            return self.at_cash() - CASH
        return self.at_broker(scope) - HELD

    def row(self, name: str) -> Rebalance:
        found = self.hedging.store.hedging.rebalance(name)
        assert found is not None
        return found

    def alerts(self) -> set[tuple[str, str]]:
        return {(one.kind, one.subject) for one in self.hedging.store.alerts(open_only=True)}

    # --- what the twins have ---

    def at_broker(self, what: str) -> Decimal:
        return self.hedging.account.held(what)

    def at_cash(self) -> Decimal:
        return self.hedging.account.cash

    def transfers(self) -> list[dict[str, Any]]:
        """Payments out of the broker's wallet."""
        rows = self.hedging.broker.moves.transfers.get(self.issuer.account, [])
        return [one for one in rows if one["direction"] == "OUTGOING"]

    def on_chain(self, symbol: str, place: str = "vault") -> Decimal:
        """Tokens in our vault, or in our wallet."""
        rig = self.hedging
        market, height = rig.chain.market, rig.chain.chain.height()
        vault = USDC_VAULT if symbol == "USDC" else STOCK_VAULT
        return market.vault(
            self.owner, market.tokens[symbol].address, WALLET if place == "wallet" else vault, height
        )

    def sent(self, call: str) -> int:
        """Calls of a name that arrived at a twin, whatever became of them."""
        return sum(1 for row in self.hedging.plan.calls if row["call"] == call)


@contextmanager
def keys_of_broker(pair: dict[str, str]) -> Iterator[None]:
    """The Broker's key and the vaults' owner's in the environment."""
    given = {
        "EVENKEEL_ALPACA_KEY": pair["key_id"],
        "EVENKEEL_ALPACA_SECRET": pair["secret"],
        "EVENKEEL_VAULTS_KEY": "0x" + OWNER_KEY.hex(),
    }
    with environment(given):
        yield


@asynccontextmanager
async def rebalancing_rig(url: str) -> AsyncIterator[RebalanceRig]:
    """The hedging rig with an issuer: 1,000 shares of each symbol and a million dollars at the broker, nothing on chain."""
    async with hedging_rig(url, owner_key=OWNER_KEY) as rig:
        rig.broker.moves.delay_ms = 4_000
        yield RebalanceRig(rig, Issuer(rig.broker, rig.chain, rig.keys["account_id"]))
