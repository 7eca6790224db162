"""A pull of tokens on a real EVM node: once, whatever is lost, stuck, replaced or reorganised."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import VenueRefused
from evenkeel.types import IntentState
from tasks.intents import Done, NotDone, StillUnknown, carry_out
from tests.evm_rig import CHARGES, COLLECTOR, MILLION, PLATFORM, EvmRig, evm_rig
from venues.evm.fees import GWEI
from venues.signers.local import LocalEvmKey

COLLECTOR_ADDRESS = LocalEvmKey.from_hex(COLLECTOR).address


async def pulled(rig: EvmRig, name: str = "c1", units: int = 5 * MILLION, **options: Any) -> Any:
    desk = rig.desk(**options.pop("caps", {}))
    desk.store.plan_intent(rig.pull(name, rig.users[0], units))
    return await carry_out(desk, name, None, **options)


async def test_a_pull_moves_the_amount_once_and_says_what_it_cost(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        done = await pulled(rig)
        assert isinstance(done, Done)
        assert done.receipt.done_qty == Decimal(5)
        assert int(done.receipt.detail["fee_wei"]) > 0
        assert rig.balance(PLATFORM) == 5 * MILLION and rig.nonce(COLLECTOR_ADDRESS) == 1
        store = rig.desk().store
        [given] = store.lanes.given(f"evm:421614:{COLLECTOR_ADDRESS}")
        assert (given.number, given.intent_id, given.n) == (0, "c1", 1)
        # The same again changes nothing.
        assert isinstance(await carry_out(rig.desk(), "c1", None), Done)
        assert rig.balance(PLATFORM) == 5 * MILLION


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("drop_answer", "eth_sendRawTransaction"),
        ("drop_request", "eth_sendRawTransaction"),
        ("http_500_after", "eth_sendRawTransaction"),
        ("http_429", "eth_sendRawTransaction"),
        ("garbage", "eth_sendRawTransaction"),
        ("lost", "eth_sendRawTransaction"),
        ("drop_answer", "eth_getTransactionReceipt"),
        ("garbage", "eth_getTransactionReceipt"),
        ("lag", "eth_getTransactionReceipt"),
        ("lag", "eth_getBlockByNumber"),
        ("lag", "eth_getTransactionCount"),
        ("silent_chain", ".*"),
    ],
)
async def test_whatever_is_lost_the_amount_is_moved_once(kind: str, call: str, tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        fault = rig.fault(
            kind, call if kind != "silent_chain" else "", times=4 if kind == "silent_chain" else 2
        )
        done = await pulled(rig)
        assert fault.hits, "the fault never struck"
        assert isinstance(done, Done), done
        assert rig.balance(PLATFORM) == 5 * MILLION and rig.nonce(COLLECTOR_ADDRESS) == 1


async def test_a_process_that_dies_after_the_commit_and_before_the_wire_leaves_bytes_that_the_next_one_sends(
    tmp_path: Path,
) -> None:
    async with evm_rig(tmp_path) as rig:
        first = rig.desk()
        first.store.plan_intent(rig.pull("c1", rig.users[0], MILLION))
        spec = first.store.intent("c1").spec
        venue = first.venue("arbitrum")
        built = await venue.build(spec)
        signed = await venue.sign(spec, built)
        first.store.record_ready("c1", built.note, signed.key, lane=signed.lane)
        assert rig.calls("eth_sendRawTransaction") == 0
        # A second pull meanwhile is signed with the next number, and waits for nobody.
        second = rig.desk()
        second.store.plan_intent(rig.pull("c2", rig.users[1], 2 * MILLION))
        waits = await carry_out(second, "c2", None, wait_s=5)
        assert isinstance(waits, StillUnknown)
        assert isinstance(await carry_out(rig.desk(), "c1", None), Done)
        assert isinstance(await carry_out(rig.desk(), "c2", None), Done)
        assert rig.balance(PLATFORM) == 3 * MILLION and rig.nonce(COLLECTOR_ADDRESS) == 2


@pytest.mark.timeout(600)
async def test_two_hundred_pulls_asked_for_at_once_on_one_key_land_once_each(tmp_path: Path) -> None:
    async with evm_rig(tmp_path, speed=20) as rig:
        desks = [rig.desk(), rig.desk()]
        names = [f"c{n}" for n in range(200)]
        for n, name in enumerate(names):
            desks[0].store.plan_intent(rig.pull(name, rig.users[n % 3], MILLION + n))
        ends = await asyncio.gather(
            *(carry_out(desks[n % 2], name, None, wait_s=12_000) for n, name in enumerate(names))
        )
        assert all(isinstance(one, Done) for one in ends), [one for one in ends if not isinstance(one, Done)]
        assert rig.balance(PLATFORM) == sum(MILLION + n for n in range(200))
        given = desks[0].store.lanes.given(f"evm:421614:{COLLECTOR_ADDRESS}")
        assert [one.number for one in given] == list(range(200)) and rig.nonce(COLLECTOR_ADDRESS) == 200


async def test_a_fee_that_has_risen_above_what_was_offered_is_followed_at_the_same_number(
    tmp_path: Path,
) -> None:
    async with evm_rig(tmp_path) as rig:
        desk = rig.desk()
        desk.store.plan_intent(rig.pull("c1", rig.users[0], MILLION))
        spec, venue = desk.store.intent("c1").spec, desk.venue("arbitrum")
        built = await venue.build(spec)
        signed = await venue.sign(spec, built)
        desk.store.record_ready("c1", built.note, signed.key, lane=signed.lane)
        rig.twin.base_fee_wei = GWEI // 20  # the next blocks cost more than twice what was offered
        done = await carry_out(rig.desk(), "c1", None, wait_s=120)
        assert isinstance(done, Done), done
        [attempt] = desk.store.attempts_of("c1")
        assert len(attempt.key["copies"]) > 1
        assert rig.balance(PLATFORM) == MILLION and rig.nonce(COLLECTOR_ADDRESS) == 1


async def test_a_number_that_somebody_else_used_is_proof_that_the_attempt_is_dead(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        desk = rig.desk()
        desk.store.plan_intent(rig.pull("c1", rig.users[0], MILLION))
        spec, venue = desk.store.intent("c1").spec, desk.venue("arbitrum")
        built = await venue.build(spec)
        signed = await venue.sign(spec, built)
        desk.store.record_ready("c1", built.note, signed.key, lane=signed.lane)
        # The same key is used elsewhere, without the ledger.
        rig.twin.node.rpc("anvil_impersonateAccount", COLLECTOR_ADDRESS)
        rig.transact(COLLECTOR_ADDRESS, rig.usdc, "transfer(address,uint256)", rig.users[2], 0)
        found = await carry_out(rig.desk(), "c1", None, wait_s=60)
        assert isinstance(found, NotDone) and "another transaction" in found.reason
        assert rig.balance(PLATFORM) == 0
        done = await pulled(rig, "c2")
        assert isinstance(done, Done)
        [first, second] = desk.store.lanes.given(f"evm:421614:{COLLECTOR_ADDRESS}")
        assert (first.number, second.number) == (0, 1)


async def test_a_call_that_is_reverted_in_its_block_is_dead_with_the_contracts_own_words(
    tmp_path: Path,
) -> None:
    async with evm_rig(tmp_path) as rig:
        desk = rig.desk()
        desk.store.plan_intent(rig.pull("c1", rig.users[0], MILLION))
        spec, venue = desk.store.intent("c1").spec, desk.venue("arbitrum")
        built = await venue.build(spec)
        rig.transact(rig.users[0], rig.usdc, "approve(address,uint256)", COLLECTOR_ADDRESS, 0)
        signed = await venue.sign(spec, built)
        desk.store.record_ready("c1", built.note, signed.key, lane=signed.lane)
        found = await carry_out(rig.desk(), "c1", None)
        assert isinstance(found, NotDone)
        assert "ERC20: transfer amount exceeds allowance" in found.reason
        assert desk.store.intent("c1").state is IntentState.FAILED and rig.nonce(COLLECTOR_ADDRESS) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_block_that_is_reorganised_away_leads_to_the_same_bytes_in_another(
    depth: int, tmp_path: Path
) -> None:
    async with evm_rig(tmp_path) as rig:
        desk = rig.desk()
        desk.store.plan_intent(rig.pull("c1", rig.users[0], MILLION))
        spec, venue = desk.store.intent("c1").spec, desk.venue("arbitrum")
        built = await venue.build(spec)
        signed = await venue.sign(spec, built)
        desk.store.record_ready("c1", built.note, signed.key, lane=signed.lane)
        rig.twin.node.rpc("eth_sendRawTransaction", "0x" + signed.key["copies"][-1]["raw"])
        for _ in range(depth):
            rig.twin.node.rpc("evm_mine")
        if depth < 3:
            assert not isinstance(await venue.find(spec, signed), Done)
        rig.twin.node.rpc("anvil_reorg", depth, [])
        assert rig.balance(PLATFORM) == 0
        done = await carry_out(rig.desk(), "c1", None)
        assert isinstance(done, Done), done
        assert rig.balance(PLATFORM) == MILLION and rig.nonce(COLLECTOR_ADDRESS) == 1


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"owner": "0x" + "11" * 20, "units": 0}, "units"),
        ({"owner": "0x" + "11" * 20, "units": "NaN"}, "units"),
        ({"owner": "0x11", "units": 5}, "owner"),
        ({"owner": "0x" + "11" * 20, "units": 5, "to": "0x" + "22" * 20}, "to"),
        ({"owner": PLATFORM, "units": 5}, "nobody's own account"),
        ({"owner": "0x" + "11" * 20, "units": 5}, "allows and holds 0"),
        ({"owner": "USER", "units": 1_001 * MILLION}, "at most 1000"),
    ],
)
async def test_a_bad_order_is_refused_in_one_line_and_takes_no_number(
    order: dict[str, Any], says: str, tmp_path: Path
) -> None:
    async with evm_rig(tmp_path) as rig:
        desk = rig.desk()
        order = order | ({"owner": rig.users[0]} if order["owner"] == "USER" else {})
        desk.store.plan_intent(rig.pull("c1", rig.users[0], 1).model_copy(update={"order": order}))
        found = await carry_out(desk, "c1", None)
        assert isinstance(found, NotDone) and says in found.reason and "\n" not in found.reason
        assert desk.store.lanes.given(f"evm:421614:{COLLECTOR_ADDRESS}") == []
        assert rig.calls("eth_sendRawTransaction") == 0


async def test_what_nobody_owes_is_not_signed_even_where_it_was_built(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        desk = rig.desk()
        desk.store.plan_intent(rig.pull("c1", rig.users[0], MILLION))
        spec, venue = desk.store.intent("c1").spec, desk.venue("arbitrum")
        built = await venue.build(spec)
        rig.unowed.add(MILLION)  # it was paid, or waived, meanwhile
        with pytest.raises(VenueRefused, match="owes no charge of 1"):
            await venue.sign(spec, built)
        found = await carry_out(desk, "c1", None)
        assert isinstance(found, NotDone) and "owes no charge" in found.reason


async def test_gas_above_the_cap_and_an_empty_wallet_refuse_before_a_number_is_taken(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        found = await pulled(rig, "c1", caps={"most_wei": 1000}, wait_s=3)
        assert isinstance(found, NotDone) and "above the cap" in found.reason
        rig.twin.node.rpc("anvil_setBalance", COLLECTOR_ADDRESS, "0x1")
        poor = await pulled(rig, "c2")
        assert isinstance(poor, NotDone) and "send it some" in poor.reason
        assert rig.desk().store.unfinished_intents(CHARGES) == []


async def test_with_one_of_two_nodes_gone_the_other_serves(tmp_path: Path) -> None:
    async with evm_rig(tmp_path, nodes=2) as rig:
        rig.urls[0] = "http://127.0.0.1:9"
        assert isinstance(await pulled(rig), Done)
        assert rig.balance(PLATFORM) == 5 * MILLION
