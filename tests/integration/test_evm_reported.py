"""What users of other programs reported of nodes, with where: none of it loses a log or is the chain's word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import Retryable, VenueRefused
from evenkeel.types import Confirmed
from tasks.intents import Done
from tests.evm_rig import MILLION, PLATFORM, evm_rig
from tests.integration.test_evm_pulls import pulled
from tests.raindex_rig import RaindexRig, raindex_rig
from venues.evm.contract_wallets import confirms

REFUSALS = [
    # bobanetwork/boba_legacy#827: the range is named in `data` alone.
    {
        "code": -32602,
        "message": "invalid params",
        "data": {"payload": "range 9009594 is bigger than range limit 2000"},
    },
    # boundless-xyz/boundless#838: the provider takes 500 blocks, and later 10.
    {"code": -32600, "message": "You can make eth_getLogs requests with up to a 500 block range."},
    # INFURA/infura#237: another code than the documented one.
    {"code": -32602, "message": "range 1000000 exceeds limit of 10000"},
    {"code": -32000, "message": "logs matched by query exceeds limit of 10000"},
    # worldcoin/signup-sequencer#274
    {"code": -32000, "message": "Query timeout exceeded. Consider reducing your block range."},
]


@pytest.fixture
async def rig() -> AsyncIterator[RaindexRig]:
    async with raindex_rig() as running:
        yield running


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_range_that_is_refused_in_any_words_is_asked_for_in_parts(
    rig: RaindexRig, refusal: dict[str, Any]
) -> None:
    for _ in range(6):
        rig.trade("COIN", "sell", "1")
        rig.pass_blocks(40)
    rig.plan("too_large", times=-1, blocks=25, **refusal)
    assert len((await rig.read(rig.reader())).fills) == 6


async def test_a_refusal_of_each_range_ends_the_reading_after_a_few_questions(rig: RaindexRig) -> None:
    rig.pass_blocks(600)
    rig.plan("too_large", times=-1, blocks=0, message="method is not included in your plan")
    with pytest.raises(VenueRefused, match="not included"):
        await rig.reader().window(rig.start, 500)
    assert len([one for one in rig.running.faults.calls if "eth_getLogs" in one["call"]]) < 15


async def test_a_range_that_is_never_answered_in_time_is_read_in_smaller_ones(rig: RaindexRig) -> None:
    """graphprotocol/graph-node#776: a request that can never succeed is made again and again. Here the node's own time is up
    (docs.infura.io, eth_getLogs: -32005 after ten seconds), which it says with the code of its limits.
    """
    for _ in range(6):
        rig.trade("COIN", "sell", "1")
        rig.pass_blocks(40)
    rig.plan("too_large", times=-1, blocks=50, code=-32005, message="query timeout exceeded")
    reader, tries = rig.reader(), 0
    while True:
        tries += 1
        try:
            found = await rig.read(reader)
            break
        except Retryable:
            assert tries < 8
    assert len(found.fills) == 6


async def test_after_an_outage_a_range_is_not_read_block_by_block(rig: RaindexRig) -> None:
    rig.pass_blocks(900)
    reader = rig.reader()
    rig.plan("http_500", "eth_getLogs", times=-1)
    for _ in range(15):
        with pytest.raises(Retryable):
            await reader.window(rig.start, 800)
    rig.running.faults.clear()
    rig.running.faults.calls.clear()
    await rig.read(reader)
    asked = [one for one in rig.running.faults.calls if "eth_getLogs" in one["call"]]
    assert len(asked) < 50, "16 of them by hash"


async def test_nothing_answered_for_a_call_by_a_node_without_the_block_sets_no_fill_aside(
    rig: RaindexRig,
) -> None:
    """erigontech/erigon#12850, ethereum/go-ethereum#15102: at a block that it has not got a node answers a call with `0x`."""
    rig.wrapped = {"COIN"}
    rig.twin.control("token", {"symbol": "COIN", "ratio": "1.5", "block": 1})
    rig.trade("COIN", "sell", "2")
    rig.pass_blocks()
    reader = rig.reader()
    rig.plan("behind", "eth_call", times=-1, blocks=50)
    with pytest.raises(Retryable):
        await reader.window(rig.start, 1_000)
    rig.running.faults.clear()
    found = await rig.read(reader)
    assert [str(one.shares) for one in found.fills] == ["3.0"] and not found.quarantined


async def test_a_node_without_old_states_is_no_hindrance_where_the_other_has_them(rig: RaindexRig) -> None:
    """graphprotocol/graph-node#2202, ethereum/go-ethereum#20874: a node keeps the states of its newest 128 blocks alone."""
    rig.wrapped = {"COIN"}
    rig.twin.control("token", {"symbol": "COIN", "ratio": "1.5", "block": 1})
    rig.trade("COIN", "sell", "2")
    rig.pass_blocks()
    pruned = {"how": "rpc_error", "code": -32000, "message": "missing trie node 468889ec0c4a (path )"}
    rig.plan("one_endpoint", "eth_call", times=3, **pruned)
    found = await rig.read(rig.reader(nodes=2))
    assert [str(one.shares) for one in found.fills] == ["3.0"] and not found.quarantined


OF_THE_NODE = [
    # ethereum/go-ethereum#29956, ApeWorX/web3.py#3212, ethers-io/ethers.js#4999: of a receipt, while old blocks are indexed.
    ("eth_getTransactionReceipt", -32000, "transaction indexing is in progress"),
    # erigontech/erigon#1503: of a receipt, as long as the transaction is in no block.
    ("eth_getTransactionReceipt", -32000, "getReceipts error: block 0000000000000000 not found"),
    # 0xPolygon/bor#109: of calls, now and then.
    ("eth_call", -32000, "missing trie node 468889ec0c4a749fd64d25685a93144c (path )"),
    ("eth_estimateGas", -32000, "header not found"),
    ("eth_getTransactionCount", -32000, "header not found"),
    # paradigmxyz/reth#5696
    ("eth_call", -32001, "unknown block number"),
]


@pytest.mark.parametrize(("call", "code", "message"), OF_THE_NODE)
@pytest.mark.parametrize("nodes", [1, 2])
async def test_what_a_node_says_of_itself_is_no_answer_of_the_chain(
    call: str, code: int, message: str, nodes: int, tmp_path: Path
) -> None:
    """One node is asked again, of two the other one: the order is neither refused nor left in doubt."""
    async with evm_rig(tmp_path, nodes=nodes) as rig:
        args = {"how": "rpc_error", "code": code, "message": message}
        rig.fault("one_endpoint", call, times=1 if nodes == 1 else 2, **args)
        assert isinstance(await pulled(rig), Done)
        assert rig.balance(PLATFORM) == 5 * MILLION


async def test_a_wallet_that_is_a_contract_has_not_said_no_where_the_node_says_nothing_of_it(
    tmp_path: Path,
) -> None:
    async with evm_rig(tmp_path) as rig:
        rpc = rig.rpc()
        rig.fault(
            "one_endpoint", "eth_call", times=-1, how="rpc_error", code=-32000, message="header not found"
        )
        with pytest.raises(Retryable):
            await confirms(rpc, rig.usdc, b"\0" * 32, b"\0" * 65)
        rig.faults.clear()
        assert not await confirms(rpc, rig.usdc, b"\0" * 32, b"\0" * 65)
        await rpc.close()


@pytest.mark.parametrize("words", ["AlreadyKnown", "already known", "known transaction: 608f9e3b"])
async def test_bytes_that_a_node_holds_already_are_waited_for(words: str, tmp_path: Path) -> None:
    """NethermindEth/nethermind#12153: it names its own constant, `AlreadyKnown`, where geth says "already known"."""
    async with evm_rig(tmp_path) as rig:
        rpc = rig.rpc()
        rig.fault("one_endpoint", "eth_sendRawTransaction", how="rpc_error", code=-32000, message=words)
        assert await rpc.put(b"\x02") == Confirmed("")
        await rpc.close()
