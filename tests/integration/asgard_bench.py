"""An Asgard venue in front of its two local services, with what its tests ask of all three."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import IntentSpec, Outcome, Receipt, VenueName
from tests.integration.test_solana_client import StepClock
from tests.worlds import flat_world
from twins.asgard.app import AsgardTwin
from twins.asgard.venue import FEE_OWNER
from twins.faults import App, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.solana.chain import SolanaChain
from twins.solana.rpc import SolanaTwin
from twins.world import World
from venues.asgard.approving import PriceSource
from venues.asgard.client import AsgardClient
from venues.asgard.mints import INF, USDC, token
from venues.asgard.models import PositionRecord
from venues.asgard.orders import AsgardOrder, CloseLong, OpenLong
from venues.asgard.venue import AsgardVenue
from venues.solana.keys import SolanaSigner
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import Rules

START_USDC = 20_000
ASGARD_FEES = get_associated_token_address(FEE_OWNER, Pubkey.from_string(USDC.mint))


@dataclass
class Bench:
    """One funded wallet on a standing market; `execution` figures are the lender's own."""

    world: World
    chain: SolanaChain
    twin: AsgardTwin
    faults: FaultPlan
    clock: StepClock
    venue: AsgardVenue
    wallet: Pubkey
    keypair: Keypair
    restarted: Callable[[], AsgardVenue]
    """Another process: nothing shared but the settings."""
    _steps: itertools.count = field(default_factory=lambda: itertools.count(1))

    async def open_order(self, asset: str = "SOL", protocol: int = 1, **changes: Any) -> OpenLong:
        """A threefold long of 2,000 USDC of collateral."""
        for strategy in await self.venue.markets():
            if strategy.token_a_mint != token(asset).mint:
                continue
            for source in strategy.liquidity_sources:
                if source.lending_protocol == protocol:
                    fields = {
                        "token_a_bank": source.token_a_bank,
                        "token_b_bank": source.token_b_bank,
                        "collateral_usdc": Decimal(2_000),
                        "leverage": Decimal(3),
                    }
                    return OpenLong(asset=asset, protocol=protocol, **(fields | changes))
        raise LookupError(f"no market for {asset} on {protocol}")

    def intent(self, order: AsgardOrder) -> IntentSpec:
        step = next(self._steps)
        kind = IntentKind.RESIZE
        if isinstance(order, OpenLong | CloseLong):
            kind = IntentKind.OPEN if isinstance(order, OpenLong) else IntentKind.CLOSE
        return IntentSpec(
            intent_id=f"intent-{step}",
            business=CARRY,
            subject="position",
            venue=VenueName.ASGARD,
            part=LegSide.LONG,
            kind=kind,
            step=step,
            order=order.model_dump(mode="json"),
        )

    async def run(self, order: AsgardOrder) -> Outcome[Receipt]:
        """Build, sign and send, as a task does."""
        intent = self.intent(order)
        signed = await self.venue.sign(intent, await self.venue.build(intent))
        return await self.venue.send(intent, signed)

    def fault(self, venue: str, kind: str, call: str, **changes: Any) -> None:
        self.faults.add(Fault(venue, kind, call=call, **changes))

    def ledger(self) -> dict[str, Any]:
        return self.twin.control("ledger", {})

    def executions(self, pda: str) -> list[dict[str, Any]]:
        """What the lender says each landed transaction did, numbers as Decimal."""
        [found] = [one for one in self.ledger()["positions"] if one["pda"] == pda]
        return [{key: _number(value) for key, value in one.items()} for one in found["position_accounting"]]

    def truth(self, receipt: Receipt) -> dict[str, Any]:
        """The lender's record of the transaction that a receipt is about."""
        signatures = receipt.detail["signatures"]
        [found] = [one for one in self.executions(receipt.ref) if one["signature"] in signatures]
        return found

    def record(self, pda: str) -> PositionRecord:
        [found] = [one for one in self.ledger()["rows"] if one["positionPda"] == pda]
        return PositionRecord.model_validate(found)

    def live_positions(self) -> int:
        return sum(1 for one in self.ledger()["positions"] if one["live"])

    def price(self, asset: str) -> Decimal:
        return Decimal(str(self.world.token_price(asset)))

    def put_stake_pool(self, asset: str, total: int, supply: int) -> None:
        known = token(asset)
        data = bytearray(611)
        data[0] = 1
        data[162:194] = bytes(Pubkey.from_string(known.mint))
        data[258:266], data[266:274] = total.to_bytes(8, "little"), supply.to_bytes(8, "little")
        self._put(str(known.pool), str(known.pool_program), bytes(data))

    def put_infinity(self, total: int, supply: int) -> None:
        self._put(str(INF.pool), str(INF.pool_program), total.to_bytes(8, "little") + bytes(168))
        mint = Pubkey.from_string(INF.mint)
        account = self.chain.account(mint)
        assert account is not None
        data = bytearray(account.data)
        data[36:44] = supply.to_bytes(8, "little")
        self.chain.set_account(mint, Account(account.lamports, bytes(data), account.owner))

    def _put(self, address: str, owner: str, data: bytes) -> None:
        account = Account(10**9, data, Pubkey.from_string(owner))
        self.chain.set_account(Pubkey.from_string(address), account)


def _number(value: Any) -> Any:
    try:
        return Decimal(value) if isinstance(value, str) else value
    except ArithmeticError:
        return value


def world_price(world: World) -> PriceSource:
    """What another venue would say that SOL costs."""

    async def price() -> Decimal:
        return Decimal(str(world.sol_price()))

    return price


@asynccontextmanager
async def bench(
    *,
    api_key: str | None = "key",
    wait_s: float = 20.0,
    fee_cap: int = 10_000_000,
    around: Callable[[App], App] = lambda app: app,
) -> AsyncIterator[Bench]:
    """`around` may stand before both servers."""
    world, faults = flat_world(), FaultPlan()
    chain = SolanaChain(world, faults)
    node, twin = SolanaTwin(chain), AsgardTwin(world, chain, faults, api_keys={"key"})
    keypair = Keypair()
    chain.airdrop(keypair.pubkey(), 5 * 10**9)
    chain.set_token_balance(keypair.pubkey(), Pubkey.from_string(USDC.mint), START_USDC * 10**6)
    wrapped_node = FaultMiddleware(node.app, faults, "solana", node.call_name, world.now_ms)
    wrapped_twin = FaultMiddleware(twin.app, faults, "asgard", twin.call_name, world.now_ms)
    async with served(around(wrapped_node)) as rpc_url, served(around(wrapped_twin)) as asgard_url:
        clock = StepClock(world)
        made: list[AsgardVenue] = []

        def make() -> AsgardVenue:
            made.append(
                AsgardVenue(
                    AsgardClient(f"{asgard_url}/margin-trading", clock, api_key=api_key, timeout_s=10),
                    SolanaRpc(rpc_url, clock, timeout_s=10),
                    SolanaSigner(keypair),
                    clock,
                    sol_price=world_price(world),
                    rules=Rules(fee_cap_lamports=fee_cap, fee_accounts=frozenset({ASGARD_FEES})),
                    wait_s=wait_s,
                )
            )
            return made[-1]

        venue = make()
        await clock.sleep(20)  # balances just put there become visible at every commitment
        yield Bench(world, chain, twin, faults, clock, venue, keypair.pubkey(), keypair, make)
        for one in made:
            await one.close()
