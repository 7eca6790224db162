"""A funded wallet, an attacker, the twins in this process, and both ways: past the validator, and through it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from httpx import ASGITransport
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from tests.integration.test_solana_client import StepClock
from tests.worlds import flat_world
from twins.asgard.app import AsgardTwin
from twins.asgard.venue import FEE_OWNER, PROTOCOLS, TOKENS, TOKENS_A, USDC, USDC_MINT
from twins.faults import FaultPlan
from twins.solana.chain import SolanaChain
from twins.solana.ledger import LandedTransaction
from twins.solana.rpc import SolanaTwin
from twins.world import World
from venues.asgard.client import AsgardClient
from venues.asgard.expecting import expectation_of
from venues.asgard.orders import AsgardOrder, CloseLong, OpenLong
from venues.asgard.venue import AsgardVenue
from venues.solana.keys import SolanaSigner
from venues.solana.lookup import read_view
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import Expectation, Rules
from venues.solana.rules.validator import Verdict, decode, judge, sizes_wanted
from venues.solana.view import ChainView, Violation

SOL = 10**9
START_LAMPORTS, START_USDC = 5 * SOL, 20_000 * 10**6
PRICE = Decimal(200)
ASGARD_FEES = get_associated_token_address(FEE_OWNER, USDC_MINT)


@dataclass
class Scene:
    """`land` signs whatever it is given with the wallet's key, as a client without a validator would."""

    world: World
    chain: SolanaChain
    twin: AsgardTwin
    clock: StepClock
    rpc: SolanaRpc
    venue: AsgardVenue
    key: Keypair
    attacker: Keypair
    rules: Rules = field(default_factory=lambda: Rules(fee_accounts=frozenset({ASGARD_FEES})))

    @property
    def wallet(self) -> Pubkey:
        return self.key.pubkey()

    # The way past the validator

    def compile(
        self,
        instructions: Sequence[Instruction],
        *,
        signers: Sequence[Keypair] = (),
        tables: Sequence[AddressLookupTableAccount] = (),
        payer: Pubkey | None = None,
        blockhash: Hash | None = None,
    ) -> str:
        """An unsigned build of one transaction, base64, with the signatures of the builder's own keys."""
        latest = blockhash or self.chain.latest_blockhash("confirmed")[0]
        message = MessageV0.try_compile(payer or self.wallet, list(instructions), list(tables), latest)
        raw = to_bytes_versioned(message)
        by_key = {one.pubkey(): one.sign_message(raw) for one in signers}
        required = message.account_keys[: message.header.num_required_signatures]
        slots = [by_key.get(one, Signature.default()) for one in required]
        return base64.b64encode(bytes(VersionedTransaction.populate(message, slots))).decode()

    def sign_blindly(self, encoded: str) -> VersionedTransaction:
        """What a client does that trusts the builder."""
        tx = VersionedTransaction.from_bytes(base64.b64decode(encoded))
        raw = to_bytes_versioned(tx.message)
        slots = [
            self.key.sign_message(raw) if key == self.wallet else had
            for key, had in zip(tx.message.account_keys, tx.signatures, strict=False)
        ]
        return VersionedTransaction.populate(tx.message, slots)

    def land(self, encoded: str) -> LandedTransaction:
        """Sign, send, and answer what landed; AssertionError unless it succeeded."""
        return self.send(self.sign_blindly(encoded))

    def send(self, tx: VersionedTransaction) -> LandedTransaction:
        self.chain.submit(bytes(tx), skip_preflight=True)
        landed = self.chain.transaction(tx.signatures[0])
        assert landed is not None, "it did not land"
        assert landed.err is None, (landed.err, landed.logs)
        return landed

    # The way through the validator

    async def view(self, build: Sequence[str]) -> ChainView:
        try:
            transactions = [decode(one) for one in build]
        except Violation:
            return ChainView()
        return await read_view(self.rpc, transactions, [], sizes_wanted(transactions))

    async def judge(self, build: Sequence[str], expectation: Expectation | None = None) -> Verdict | Refused:
        """The verdict as it stands now, under an opening unless given another."""
        wanted = expectation or await self.opening()
        return judge(build, wanted, await self.view(build), self.rules)

    async def opening(self, **order: Any) -> Expectation:
        return await self.expect(await self.open_order(**order))

    async def expect(self, order: AsgardOrder) -> Expectation:
        before = None
        if not isinstance(order, OpenLong):
            pda = order.position_pda
            before = (await self.venue.client.refresh([(order.protocol, pda)]))[pda]
        price = Decimal(str(self.world.token_price(order.asset)))
        return expectation_of(order, self.wallet, await self.venue.markets(600_000), before, price)

    # Honest builds

    async def open_order(self, protocol: int = 1, asset: str = "SOL", **changes: Any) -> OpenLong:
        """A threefold long of 2,000 USDC."""
        venue = PROTOCOLS[protocol]
        token = next(one for one in TOKENS_A if one.symbol == asset)
        fields = {
            "collateral_usdc": Decimal(2_000),
            "leverage": Decimal(3),
            "jito_tip_lamports": 10_000,
        } | changes
        return OpenLong(
            asset=asset,
            protocol=protocol,
            token_a_bank=str(venue.bank(token)),
            token_b_bank=str(venue.bank(USDC)),
            **fields,
        )

    async def build(self, order: AsgardOrder) -> list[str]:
        """The builder's unsigned transactions."""
        blob = await self.venue.client.build(order.build_path, order.body(str(self.wallet)))
        return blob.encoded

    async def open(self, protocol: int = 1, asset: str = "SOL", **changes: Any) -> str:
        """A position that stands; its address."""
        encoded = await self.build(await self.open_order(protocol, asset, **changes))
        for one in encoded:
            self.land(one)
        await self.clock.sleep(20)
        return str(self.twin.control("ledger", {})["positions"][-1]["pda"])

    def close_order(self, pda: str, protocol: int = 1, asset: str = "SOL") -> CloseLong:
        return CloseLong(asset=asset, protocol=protocol, position_pda=pda, slippage_bps=100)

    # Truth

    def lamports(self, key: Pubkey | None = None) -> int:
        return self.chain.lamports(key or self.wallet)

    def usdc(self, owner: Pubkey | None = None) -> int:
        return self.chain.token_balance(owner or self.wallet, USDC_MINT)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    world, faults = flat_world(), FaultPlan()
    chain = SolanaChain(world, faults)
    node, twin = SolanaTwin(chain), AsgardTwin(world, chain, faults, api_keys={"key"})
    key, attacker = Keypair.from_seed(b"w" * 32), Keypair.from_seed(b"t" * 32)
    chain.airdrop(key.pubkey(), START_LAMPORTS)
    chain.airdrop(attacker.pubkey(), SOL)
    chain.set_token_balance(key.pubkey(), USDC_MINT, START_USDC)
    for token in TOKENS:
        chain.set_token_balance(attacker.pubkey(), token.mint, 0)
    clock = StepClock(world)
    rpc = SolanaRpc("http://node", clock, transport=ASGITransport(app=node.app))
    client = AsgardClient(
        "http://asgard/margin-trading", clock, api_key="key", transport=ASGITransport(app=twin.app)
    )

    async def price() -> Decimal:
        return Decimal(str(world.sol_price()))

    rules = Rules(fee_accounts=frozenset({ASGARD_FEES}))
    venue = AsgardVenue(client, rpc, SolanaSigner(key), clock, sol_price=price, rules=rules)
    await clock.sleep(20)
    yield Scene(world, chain, twin, clock, rpc, venue, key, attacker)
    await venue.close()
