"""What moves between chain and broker, as the conformance suite has to know it: vaults, wrappers, conversions, tokens."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

from evenkeel.types import IntentSpec
from state.store import Store
from tasks.lanes import LedgerLanes
from tests.alpaca_rig import AlpacaRig
from tests.conformance.adapter import Adapter, Recorder
from tests.conformance.broker_adapters import AlpacaBrokerAdapter
from tests.evm_rig import CHAIN_ID, COLLECTOR, EvmRig, evm_rig, settle_fee
from twins.evm.deploying import transact
from twins.raindex.contract import ContractMarket
from venues.alpaca.conversions import NAME as CONVERSIONS
from venues.alpaca.conversions import Conversions
from venues.alpaca.moves import NAME as MOVES
from venues.alpaca.moves import AlpacaMoves, Bounds
from venues.alpaca.transfers import AlpacaTransfers
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.sender import Chain
from venues.evm.wrapping import MovedToken, TokenMoves
from venues.protocol import OrderVenue
from venues.raindex.vaults import Vault, VaultMoves
from venues.signers.local import LocalEvmKey

ONE = 10**18
WALLET, TAKER = "0x" + "5a" * 20, "0x" + "f6" * 20
SEND = "eth_sendRawTransaction"


class ConversionsAdapter(AlpacaBrokerAdapter):
    """Dollars into USDC: a market order like another, of one pair."""

    name = CONVERSIONS

    def __init__(self, rig: AlpacaRig, recorder: Recorder) -> None:
        super().__init__(rig, recorder)
        self.venue = self.restarted()

    async def order(self) -> IntentSpec:
        return self._rig.intent("USDCUSD", qty="1000.25").model_copy(update={"venue": CONVERSIONS})

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "another symbol": self._rig.intent("AAPL"),
            "more than allowed": self._rig.intent("USDCUSD", qty="5001"),
            "finer than USDC": self._rig.intent("USDCUSD", qty="1.0000001"),
        }

    def restarted(self) -> OrderVenue:
        return Conversions(self._rig.new_client(), Decimal(5000))


class MintAdapter(AlpacaBrokerAdapter):
    """Shares that become tokens. Alpaca takes the id of a request more than once, so that the same bytes never go twice."""

    name = MOVES
    resends = has_price = False
    dead_after_s, done_after_s = 60, 10
    _CALL = "tokens:mint"

    def __init__(self, rig: AlpacaRig, recorder: Recorder) -> None:
        super().__init__(rig, recorder)
        rig.account.move("AAPL", Decimal(100), Decimal(260))
        self.venue = self.restarted()

    def _intent(self, **changes: Any) -> IntentSpec:
        order = {"symbol": "AAPL", "qty": "1.25", "wallet": WALLET, "network": "base", "issuer": "st0x"}
        given = self._rig.intent()
        return given.model_copy(update={"venue": MOVES, "kind": "mint", "order": order | changes})

    async def order(self) -> IntentSpec:
        return self._intent()

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "another symbol": self._intent(symbol="NOPE"),
            "more than allowed": self._intent(qty="50.1"),
            "nothing": self._intent(qty="0"),
            "finer than shares": self._intent(qty="0.0000000001"),
            "somebody else's wallet": self._intent(wallet=TAKER),
        }

    def restarted(self) -> OrderVenue:
        transfers = AlpacaTransfers(self._rig.new_client())
        return AlpacaMoves(transfers, transfers, Bounds(most={"AAPL": Decimal(50)}, wallet=WALLET))

    def _requests(self) -> list[dict[str, Any]]:
        self._rig.twin.catch_up()
        return self._rig.twin.moves.requests.get(self._rig.account.id, [])

    def executed(self) -> int:
        return len(self._requests())

    def state(self) -> Any:
        return super().state(), json.dumps(self._requests())

    def sent(self) -> list[str]:
        return [body.decode() for path, body in self._recorder.bodies if path.endswith("/mint") and body]

    def disturb(self, fault: str) -> None:
        self._rig.fault(fault, self._CALL, times=-1)


class _OnChain(Adapter):
    """Moves of one key on a real node. A number that nobody's bytes have used stays free until somebody uses it."""

    has_price = names_fills = False
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = 60, 30
    secret = COLLECTOR.removeprefix("0x")
    kind: ClassVar[str]

    def __init__(self, rig: EvmRig, recorder: Recorder) -> None:
        self._rig, self._recorder, self._orders, self._is_lost = rig, recorder, 0, False
        self._market = ContractMarket(rig.twin.node, ["COIN"])
        self._wrapper = self._market.tokens["COIN"].address
        self._us = LocalEvmKey.from_hex(COLLECTOR).address
        self._set_up()
        settle_fee(rig.twin.node)
        self.venue = self.restarted()
        recorder.bodies.clear()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        with TemporaryDirectory() as folder:
            async with evm_rig(Path(folder), around=recorder.around) as rig:
                yield cls(rig, recorder)

    @abstractmethod
    def _set_up(self) -> None:
        """Give our key what it moves."""

    @abstractmethod
    def _new(self, lanes: LedgerLanes) -> OrderVenue:
        """The adapter of one process."""

    @abstractmethod
    def executed(self) -> int: ...

    def restarted(self) -> OrderVenue:
        store = Store.open(self._rig.ledger, self._rig.clock)
        self._rig.stores.append(store)
        return self._new(LedgerLanes(store.lanes))

    def _give(self, token: str, signature: str, *values: Any, sender: str | None = None) -> None:
        node = self._rig.twin.node
        if sender is not None:
            node.rpc("anvil_impersonateAccount", sender)
        transact(node, sender or self._market.issuer, token, signature, *values)
        if sender is not None:
            node.rpc("anvil_stopImpersonatingAccount", sender)

    def _read(self, token: str, selector: str, *words: str) -> int:
        data = selector + "".join(one.removeprefix("0x").rjust(64, "0") for one in words)
        return int(self._rig.twin.node.rpc("eth_call", {"to": token, "data": data}, "latest"), 16)

    def _held(self, token: str) -> int:
        return self._read(token, "0x70a08231", self._us)

    def _intent(self, units: int = 40 * ONE, token: str | None = None) -> IntentSpec:
        self._orders += 1
        return IntentSpec(
            intent_id=f"move-{self._orders}",
            business="hedging",
            subject=f"move-{self._orders}",
            venue=self.name,
            kind=self.kind,
            step=self._orders,
            order={"token": token or self._wrapper, "units": units},
        )

    def asked(self, intent: IntentSpec) -> Decimal:
        return Decimal(int(intent.order["units"])).scaleb(-18)

    async def order(self) -> IntentSpec:
        return self._intent()

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "nothing": self._intent(0),
            "more than the wallet holds": self._intent(101 * ONE),
            "more than allowed": self._intent(1001 * ONE),
            "another token": self._intent(token="0x" + "77" * 20),
        }

    def sent(self) -> list[str]:
        return [body["params"][0] for _, body in self._recorder.json() if body.get("method") == SEND]

    def disturb(self, fault: str) -> None:
        self._is_lost = fault in self.lost_requests
        self._rig.fault(fault, SEND, times=-1)

    def cut_off(self) -> None:
        self._rig.fault("http_500", ".*", times=-1)

    def heal(self) -> None:
        self._rig.faults.clear()

    async def later(self, seconds: float) -> None:
        """Blocks are made; a number that was lost is used by somebody else who has the key."""
        if self._is_lost and not self.executed():
            self._rig.twin.node.rpc("anvil_impersonateAccount", self._us)
            transact(self._rig.twin.node, self._us, self._rig.usdc, "transfer(address,uint256)", self._us, 0)
            self._is_lost = False
        await self._rig.clock.sleep(max(seconds, 1.0))


class VaultAdapter(_OnChain):
    """Deposits into our vault in the order book."""

    name = "raindex-vaults"
    kind = "deposit"

    def _set_up(self) -> None:
        self._give(self._wrapper, "mint(address,uint256)", self._us, 100 * ONE)
        book = self._market.book.address
        self._give(self._wrapper, "approve(address,uint256)", book, 10_000 * ONE, sender=self._us)

    def _new(self, lanes: LedgerLanes) -> OrderVenue:
        vaults = {self._wrapper: Vault(vault_id=3, decimals=18, most_units=1_000 * ONE)}
        key, chain = LocalEvmKey.from_hex(COLLECTOR), Chain(CHAIN_ID, confirmations=3)
        book, rpc, caps = self._market.book.address, self._rig.rpc(), FeeCaps(GWEI // 2)
        return VaultMoves(self.name, book, vaults, rpc, key, lanes, chain, caps, self._rig.clock)

    def executed(self) -> int:
        return (100 * ONE - self._held(self._wrapper)) // (40 * ONE)

    def state(self) -> Any:
        return self._held(self._wrapper)


class WrapAdapter(_OnChain):
    """Tokens that are wrapped."""

    name = "raindex-tokens"
    kind = "wrap"

    def _set_up(self) -> None:
        self._inside = self._market._deployed("wrapped", ("string",), "tCOIN")
        self._give(self._wrapper, "set_asset(address)", self._inside)
        self._give(self._inside, "mint(address,uint256)", self._us, 100 * ONE)
        self._give(self._inside, "approve(address,uint256)", self._wrapper, 10_000 * ONE, sender=self._us)

    def _new(self, lanes: LedgerLanes) -> OrderVenue:
        token = MovedToken(decimals=18, most_units=1_000 * ONE)
        tokens = {self._wrapper: token.model_copy(update={"asset": self._inside}), self._inside: token}
        key, chain = LocalEvmKey.from_hex(COLLECTOR), Chain(CHAIN_ID, confirmations=3)
        caps, rpc = FeeCaps(GWEI // 2), self._rig.rpc()
        return TokenMoves(self.name, tokens, TAKER, rpc, key, lanes, chain, caps, self._rig.clock)

    def executed(self) -> int:
        return self._held(self._wrapper) // (40 * ONE)

    def state(self) -> Any:
        return self._held(self._wrapper), self._held(self._inside)


MOVING: tuple[type[Adapter], ...] = (ConversionsAdapter, MintAdapter, VaultAdapter, WrapAdapter)
