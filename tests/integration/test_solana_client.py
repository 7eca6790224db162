"""The Solana client against a node: sending once, proving landings and deaths, fees, tokens, slot time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from evenkeel.errors import Retryable
from evenkeel.types import Confirmed, Rejected, Unknown
from tests.worlds import flat_world
from twins.faults import Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.solana.chain import SolanaChain
from twins.solana.rpc import SolanaTwin
from twins.world import World
from venues.asgard.mints import TOKENS, USDC
from venues.jsonrpc import RpcError
from venues.solana.confirm import Confirmer, Dead, Landed, Payload
from venues.solana.fees import quote
from venues.solana.rpc import SolanaRpc
from venues.solana.slots import slot_time_ms
from venues.solana.tokens import check_mints, token_balance

SOL_LAMPORTS = 10**9
BROKEN = ["drop_answer", "drop_request", "http_500", "http_500_after", "http_429", "garbage"]


class StepClock:
    """The world's clock, moved forward by whoever waits."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        return self._world.now_ms()

    async def sleep(self, seconds: float) -> None:
        self._world.clock.advance_to(self._world.now_ms() + seconds * 1000)
        await asyncio.sleep(0)

    async def refresh(self) -> None:
        """The clock is the world's own."""


@dataclass
class Bench:
    world: World
    chain: SolanaChain
    faults: FaultPlan
    clock: StepClock
    rpc: SolanaRpc
    confirmer: Confirmer
    key: Keypair
    wallet: Pubkey

    async def transfer(self, lamports: int = 1_000_000) -> tuple[VersionedTransaction, Pubkey, int]:
        """A signed transfer to a fresh account, and the bound of its life."""
        to = Pubkey.new_unique()
        latest = await self.rpc.get_latest_blockhash("confirmed")
        pay = transfer(TransferParams(from_pubkey=self.wallet, to_pubkey=to, lamports=lamports))
        budget = [set_compute_unit_limit(10_000), set_compute_unit_price(5_000)]
        message = MessageV0.try_compile(self.wallet, [*budget, pay], [], Hash.from_string(latest.blockhash))
        tx = VersionedTransaction(message, [self.key])
        return tx, to, await self.confirmer.height_limit()

    def landed(self) -> int:
        return len(self.chain.control("ledger", {})["transactions"])


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    world, faults = flat_world(), FaultPlan()
    chain = SolanaChain(world, faults)
    twin = SolanaTwin(chain)
    key = Keypair()
    chain.airdrop(key.pubkey(), 5 * SOL_LAMPORTS)
    app = FaultMiddleware(twin.app, faults, "solana", twin.call_name, world.now_ms)
    async with served(app) as url:
        clock = StepClock(world)
        rpc = SolanaRpc(url, clock, timeout_s=5)
        yield Bench(world, chain, faults, clock, rpc, Confirmer(rpc, clock), key, key.pubkey())
        await rpc.close()


def payload(tx: VersionedTransaction) -> Payload:
    return Payload(str(tx.signatures[0]), bytes(tx))


async def test_send_confirm_and_replay_once() -> None:
    async with bench() as b:
        tx, to, limit = await b.transfer()
        assert await b.confirmer.send(bytes(tx)) == Confirmed(str(tx.signatures[0]))
        [result] = await b.confirmer.settle([payload(tx)], limit, already_sent=True)
        assert isinstance(result, Landed) and result.err is None
        await b.confirmer.resend(bytes(tx))
        await b.clock.sleep(5)
        assert await b.rpc.get_balance(str(to)) == 1_000_000
        found = await b.rpc.get_transaction(str(tx.signatures[0]))
        assert found is not None and found["meta"]["fee"] == 5_050


@pytest.mark.parametrize(
    "kind", ["drop_answer", "drop_request", "http_500", "http_500_after", "http_429", "garbage"]
)
async def test_a_broken_send_is_unknown_and_the_same_bytes_still_land_once(kind: str) -> None:
    async with bench() as b:
        tx, to, limit = await b.transfer()
        b.faults.add(Fault("solana", kind, call="rpc:sendTransaction"))
        assert isinstance(await b.confirmer.send(bytes(tx)), Unknown)
        [result] = await b.confirmer.settle([payload(tx)], limit, preflight=False)
        assert isinstance(result, Landed) and result.err is None
        await b.clock.sleep(60)
        assert await b.rpc.get_balance(str(to)) == 1_000_000


async def test_a_transaction_that_never_lands_is_dead_only_after_the_proof() -> None:
    async with bench() as b:
        tx, to, limit = await b.transfer()
        b.chain.control("drop_next", {"n": 1})
        assert isinstance(await b.confirmer.send(bytes(tx)), Confirmed)
        signature = str(tx.signatures[0])
        while not isinstance(result := await b.confirmer.result_of(signature, limit), Dead):
            assert isinstance(result, Unknown)
            assert b.chain.height("finalized") <= limit
            await b.clock.sleep(1)
        assert b.chain.height("finalized") > limit
        await b.confirmer.resend(bytes(tx))
        await b.clock.sleep(5)
        assert await b.rpc.get_balance(str(to)) == 0


async def test_a_dropped_transaction_lands_by_resending_and_a_late_one_is_waited_for() -> None:
    async with bench() as b:
        tx, to, limit = await b.transfer()
        b.chain.control("drop_next", {"n": 1})
        [result] = await b.confirmer.settle([payload(tx)], limit)
        assert isinstance(result, Landed) and await b.rpc.get_balance(str(to)) == 1_000_000
        tx, to, limit = await b.transfer()
        b.chain.control("land_late", {"blocks": 30, "n": 100})
        [result] = await b.confirmer.settle([payload(tx)], limit)
        assert isinstance(result, Landed)
        await b.clock.sleep(60)
        assert await b.rpc.get_balance(str(to)) == 1_000_000


async def test_a_halted_chain_is_unknown_for_as_long_as_it_stands() -> None:
    async with bench() as b:
        tx, _, limit = await b.transfer()
        b.chain.control("halt", {})
        [result] = await b.confirmer.settle([payload(tx)], limit, wait_s=60)
        assert isinstance(result, Unknown)
        b.chain.control("resume", {})
        [result] = await b.confirmer.settle([payload(tx)], limit, preflight=False)
        assert isinstance(result, Landed) and result.err is None


@pytest.mark.parametrize(
    "odd",
    [
        {"path": "result.value.*.confirmationStatus", "value": "processed"},
        {"path": "result.value.*", "value": None},
        {"path": "result.value.*.slot", "value": None},
    ],
    ids=["stays at processed", "not known", "a field null"],
)
async def test_statuses_that_are_wrong_for_good_do_not_hide_a_landing(odd: dict[str, Any]) -> None:
    """As providers answer (chainstacklabs/compare-dashboard-functions#87): the ledger has what the status cache does not."""
    async with bench() as b:
        b.faults.add(Fault("solana", "field", "rpc:getSignatureStatuses", times=-1, args=odd))
        tx, _, limit = await b.transfer()
        await b.confirmer.send(bytes(tx))
        [result] = await b.confirmer.settle([payload(tx)], limit, already_sent=True, wait_s=120.0)
        assert isinstance(result, Landed) and result.err is None, result


@pytest.mark.parametrize("call", ["SignatureStatuses", "EpochInfo", "LatestBlockhash"])
async def test_death_is_proved_without_one_of_the_endpoints(call: str) -> None:
    """And only once the finalized height has passed the limit."""
    async with bench() as b:
        confirmer = Confirmer(b.rpc, b.clock, str(b.wallet))
        older, _, _ = await b.transfer()
        await b.confirmer.send(bytes(older))
        await b.clock.sleep(600)  # a list that goes back beyond it is whole
        b.faults.add(Fault("solana", "http_500", f"rpc:get{call}", times=-1))
        latest, height = b.chain.latest_blockhash(), b.chain.height("processed")
        limit = await confirmer.height_limit()
        assert height + 150 <= limit <= height + 150 + 40
        pay = transfer(TransferParams(from_pubkey=b.wallet, to_pubkey=Pubkey.new_unique(), lamports=1))
        tx = VersionedTransaction(MessageV0.try_compile(b.wallet, [pay], [], latest[0]), [b.key])
        signature, built_at_ms = str(tx.signatures[0]), b.clock.now_ms()
        while isinstance(
            result := await confirmer.result_of(signature, limit, built_at_ms=built_at_ms), Unknown
        ):
            assert b.chain.height("finalized") <= limit
            await b.clock.sleep(5)
        assert isinstance(result, Dead) and signature in result.evidence


async def test_a_list_that_may_lack_what_it_should_have_proves_no_death() -> None:
    """A node that has pruned its history lists nothing older, and perhaps not this either."""
    async with bench() as b:
        confirmer = Confirmer(b.rpc, b.clock, str(b.wallet))
        b.faults.add(Fault("solana", "http_500", "rpc:getSignatureStatuses", times=-1))
        tx, _, limit = await b.transfer()
        await b.clock.sleep(120)
        assert b.chain.height("finalized") > limit
        found = await confirmer.result_of(str(tx.signatures[0]), limit)
        assert isinstance(found, Unknown) and "getSignatureStatuses" in found.reason, found


async def test_a_lagging_node_proves_nothing() -> None:
    async with bench() as b:
        tx, _, limit = await b.transfer()
        b.chain.control("land_late", {"blocks": 140})
        await b.confirmer.send(bytes(tx))
        b.chain.control("lag", {"slots": 200})
        await b.clock.sleep(55)
        assert isinstance(await b.confirmer.result_of(str(tx.signatures[0]), limit), Unknown)
        b.chain.control("lag", {"slots": 0})
        assert isinstance(await b.confirmer.result_of(str(tx.signatures[0]), limit), Landed)


async def test_landed_and_failed_is_final_and_not_a_confirmation() -> None:
    async with bench() as b:
        tx, _, limit = await b.transfer(lamports=50 * SOL_LAMPORTS)
        assert isinstance(await b.confirmer.send(bytes(tx)), Unknown)  # preflight sees it
        [result] = await b.confirmer.settle([payload(tx)], limit, preflight=False)
        assert isinstance(result, Landed) and result.err is not None


async def test_a_tampered_signature_is_refused_for_good() -> None:
    async with bench() as b:
        tx, _, limit = await b.transfer()
        bad = VersionedTransaction.populate(tx.message, [Signature.new_unique()])
        assert isinstance(await b.confirmer.send(bytes(bad)), Rejected)
        [result] = await b.confirmer.settle([payload(bad)], limit)
        assert isinstance(result, Dead) and b.landed() == 0


async def test_the_second_transaction_waits_for_the_first() -> None:
    async with bench() as b:
        first, _, limit = await b.transfer()
        second, to, _ = await b.transfer()
        b.chain.control("land_late", {"blocks": 20})
        results = await b.confirmer.settle([payload(first), payload(second)], limit)
        assert [isinstance(result, Landed) for result in results] == [True, True]
        slots = [result.slot for result in results if isinstance(result, Landed)]
        assert slots[0] < slots[1] and await b.rpc.get_balance(str(to)) == 1_000_000


async def test_tokens_mints_rent_and_slot_time() -> None:
    async with bench() as b:
        mint = Pubkey.from_string(USDC.mint)
        for token in TOKENS.values():
            b.chain.ensure_mint(Pubkey.from_string(token.mint), token.decimals)
        b.chain.set_token_balance(b.wallet, mint, 12_345_678)
        await b.clock.sleep(2)
        assert await token_balance(b.rpc, str(b.wallet), USDC.mint) == 12_345_678
        assert await token_balance(b.rpc, str(Pubkey.new_unique()), USDC.mint) == 0
        await check_mints(b.rpc, {one.symbol: (one.mint, one.decimals) for one in TOKENS.values()})
        assert await b.rpc.get_minimum_balance_for_rent_exemption(165) == (165 + 128) * 6_333
        await b.clock.sleep(600)
        # 250 ms a block, and every twentieth slot is skipped.
        samples = await b.rpc.get_recent_performance_samples(5)
        assert slot_time_ms(samples) == pytest.approx(237.5, rel=0.02)


async def test_priority_fees_follow_congestion_and_the_node_says_when_it_is_ill() -> None:
    async with bench() as b:
        calm = await quote(b.rpc, [str(b.wallet)], 200_000)
        b.chain.control("congestion", {"micro_lamports": 900_000})
        await b.clock.sleep(60)
        busy = await quote(b.rpc, [str(b.wallet)], 200_000)
        assert busy.micro_lamports > calm.micro_lamports
        assert busy.fee_lamports <= 10_000_000
        assert await b.rpc.call("getHealth", []) == "ok"
        b.chain.control("lag", {"slots": 200})
        with pytest.raises((Retryable, RpcError)):
            await b.rpc.call("getHealth", [])
