"""A served Asgard twin with one funded wallet, and a client that signs as a real one would."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from tests.worlds import FlatSeries
from twins.asgard import AsgardTwin
from twins.clock import TwinClock
from twins.faults import Fault, FaultPlan
from twins.http import served
from twins.solana.chain import SolanaChain
from twins.world import World

USDC = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
WSOL = Pubkey.from_string("So11111111111111111111111111111111111111112")
KEY = "test-key"
MARGINFI, KAMINO, SOLEND, DRIFT = 0, 1, 2, 3


class Bench:
    """World, chain, twin and a wallet with 10,000 USDC and 10 SOL."""

    def __init__(self, **series: Any) -> None:
        self.series = FlatSeries(**series)
        self.world = World(self.series, TwinClock(self.series.start_ms, stepped=True))
        self.faults = FaultPlan()
        self.chain = SolanaChain(self.world, self.faults)
        self.twin = AsgardTwin(self.world, self.chain, self.faults, api_keys={KEY}, keyed_per_s=10_000)
        self.wallet = Keypair()
        self.chain.airdrop(self.wallet.pubkey(), 10 * 10**9)
        self.chain.set_token_balance(self.wallet.pubkey(), USDC, 10_000 * 10**6)
        self.http: httpx.AsyncClient

    @property
    def address(self) -> str:
        return str(self.wallet.pubkey())

    def usdc(self, owner: Pubkey | None = None) -> Decimal:
        return Decimal(self.chain.token_balance(owner or self.wallet.pubkey(), USDC)).scaleb(-6)

    def wait(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + 1000 * seconds)

    def fault(self, kind: str, call: str = ".*", **args: Any) -> None:
        self.faults.add(Fault("asgard", kind, call, args=args))

    async def get(self, path: str) -> Any:
        return _ok(await self.http.get(path))

    async def post(self, path: str, body: Any = None) -> Any:
        return _ok(await self.http.post(path, json=body))

    async def refused(self, path: str, body: Any = None, status: int = 422) -> dict[str, Any]:
        """The error object of a call that must be refused."""
        answer = await self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        assert set(error) == {"name", "code", "message", "details"}
        return error

    async def source(self, protocol: int = KAMINO, symbol: str = "SOL") -> dict[str, Any]:
        strategies = (await self.get("/markets"))["strategies"]
        sources = strategies[f"{symbol}/USDC"]["liquiditySources"]
        found: dict[str, Any] = next(one for one in sources if one["lendingProtocol"] == protocol)
        return found

    async def trade(
        self,
        protocol: int = KAMINO,
        symbol: str = "SOL",
        usdc: int = 1000,
        leverage: float = 3.0,
        **changes: Any,
    ) -> dict[str, Any]:
        source = await self.source(protocol, symbol)
        return {
            "protocol": protocol,
            "tokenABank": source["tokenABank"],
            "tokenBBank": source["tokenBBank"],
            "direction": 0,
            "collateralType": 1,
            "collateralAmountNative": usdc * 10**6,
            "collateralMint": str(USDC),
            "collateralUnitPrice": 1.0,
            "leverage": leverage,
            "jitoTipLamport": 0,
            "slippageBps": 50,
            "walletPubkey": self.address,
            "useDirectRoute": False,
        } | changes

    def modify(self, pda: str, protocol: int = KAMINO, **changes: Any) -> dict[str, Any]:
        return {
            "protocol": protocol,
            "walletPubkey": self.address,
            "positionPDA": pda,
            "jitoTipLamport": 0,
            "slippageBps": 50,
            "useDirectRoute": False,
        } | changes

    def sign(self, build: dict[str, Any]) -> dict[str, Any]:
        """The build's object with our signature filled in, other signatures kept."""
        return build | {"signedTxs": [self._signed(one) for one in build["signedTxs"]]}

    def _signed(self, encoded: str) -> str:
        unsigned = VersionedTransaction.from_bytes(base64.b64decode(encoded))
        message = unsigned.message
        signatures = list(unsigned.signatures)
        at = list(message.account_keys).index(self.wallet.pubkey())
        signatures[at] = self.wallet.sign_message(to_bytes_versioned(message))
        return base64.b64encode(bytes(VersionedTransaction.populate(message, signatures))).decode()

    def broadcast(self, signed: dict[str, Any]) -> list[str]:
        """Through our own node, past Asgard."""
        return [str(self.chain.submit(base64.b64decode(one))) for one in signed["signedTxs"]]

    async def open(self, **changes: Any) -> dict[str, Any]:
        build = await self.post("/create-position", await self.trade(**changes))
        record: dict[str, Any] = await self.post("/submit-create-position-tx", self.sign(build))
        return record

    async def close(self, pda: str, protocol: int = KAMINO, **changes: Any) -> dict[str, Any]:
        body = self.modify(pda, protocol, collateralType=1) | changes
        build = await self.post("/close-position", body)
        record: dict[str, Any] = await self.post("/submit-close-position-tx", self.sign(build))
        return record

    def update_body(self, build: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
        signed = self.sign(build)
        return {
            "protocol": record["protocol"],
            "walletPubkey": self.address,
            "positionPDA": record["positionPda"],
            "positionId": record["id"],
            "tokenATokenMint": record["tokenATokenMint"],
            "tokenBTokenMint": record["tokenBTokenMint"],
            "signedTxs": signed["signedTxs"],
            "updateRecordData": build["updateRecordData"],
        }

    async def update(
        self, path: str, record: dict[str, Any], **body: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(build, answer of the submit)."""
        build = await self.post(path, self.modify(record["positionPda"], record["protocol"], **body))
        return build, await self.post("/submit-position-update-tx", self.update_body(build, record))

    async def live(self, pda: str, protocol: int = KAMINO) -> dict[str, Any]:
        body = {"positionPDAs": [{"protocol": protocol, "positionPDA": pda}]}
        found: dict[str, Any] = (await self.post("/refresh-positions", body))["positions"][pda]
        return found

    async def amounts(self, pda: str, protocol: int = KAMINO) -> tuple[Decimal, Decimal, float]:
        """(tokens, debt, health) of the live view."""
        summary = (await self.live(pda, protocol))["summary"]
        entries = [entry for one in summary["booksAndBalances"]["balances"] for entry in one.values()]
        tokens = sum((Decimal(str(entry["assetsQt"])) for entry in entries), Decimal(0))
        debt = sum((Decimal(str(entry["liabsQt"])) for entry in entries), Decimal(0))
        return tokens, debt, summary["healthFactor"]

    def truth(self, pda: str) -> dict[str, Any]:
        positions = self.twin.control("ledger", {})["positions"]
        found: dict[str, Any] = next(one for one in positions if one["pda"] == pda)
        return found


def _ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, f"{answer.request.url.path}: {answer.status_code} {answer.text}"
    return answer.json()


@asynccontextmanager
async def bench(**series: Any) -> AsyncIterator[Bench]:
    made = Bench(**series)
    async with (
        served(made.twin.app) as url,
        httpx.AsyncClient(
            base_url=f"{url}/margin-trading", headers={"X-API-Key": KEY}, trust_env=False, timeout=20
        ) as http,
    ):
        made.http = http
        yield made
