"""Windows of the order book from a node that lags, changes its mind, refuses and lies: every fill once, or no window at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal, localcontext

import pytest

from evenkeel.errors import NotUnderstood, Retryable, VenueRefused
from tests.raindex_rig import RaindexRig, raindex_rig
from twins.raindex.market import OTHER, STOCK_VAULT
from venues.raindex.fills import FOREIGN_PAIR, OTHER_OWNER, ZERO
from venues.raindex.floats import EXACT
from venues.raindex.reader import RaindexReader
from venues.raindex.types import Window


@pytest.fixture
async def rig() -> AsyncIterator[RaindexRig]:
    async with raindex_rig() as running:
        yield running


def amounts(found: Window) -> list[tuple[str, str, str]]:
    return [(one.symbol, one.side, str(one.shares)) for one in found.fills]


async def everything(rig: RaindexRig, reader: RaindexReader, most: int) -> list[Window]:
    """All windows from the start on, one after another."""
    found, first = list[Window](), rig.start
    while (window := await reader.window(first, most)) is not None:
        assert window.first == first
        if found:
            assert window.parent_hash == found[-1].last_hash
        found.append(window)
        first = window.last + 1
    return found


@pytest.mark.parametrize(("most", "near"), [(1, 16), (3, 16), (5, 2), (1_000, 16), (1_000, 0)])
async def test_windows_follow_each_other_and_hold_what_the_chain_holds(
    rig: RaindexRig, most: int, near: int
) -> None:
    rig.twin.log_times = near != 2
    for count in range(12):
        side, kind = ("sell", "take") if count % 2 else ("buy", "clear" if count % 3 else "clear_as_bob")
        rig.trade("COIN" if count % 2 else "NVDA", side, f"{count + 1}.5", f"{100 + count}", kind=kind)
        rig.pass_blocks(3)
    windows = await everything(rig, rig.reader(near=near), most)
    truth = rig.twin.control("ledger", {})
    fills = [one for window in windows for one in window.fills]
    found = [
        {"transaction": one.transaction, "block": one.block, "at_ms": one.at_ms, "symbol": one.symbol}
        | {"side": one.side, "shares": str(one.shares), "usdc": str(one.usdc)}
        for one in fills
    ]
    assert found == truth["fills"] and len(found) == 12
    assert all(one.block_hash == rig.twin.chain.hash(one.block) for one in fills)
    for window in windows:
        assert set(window.hashes) == {one.block for one in window.logs} | {window.last}
        assert all(hash_ == rig.twin.chain.hash(block) for block, hash_ in window.hashes.items())
        assert window.at_ms == rig.twin.chain.at_ms(window.last)


@pytest.mark.parametrize(
    ("cutoff", "behind"), [("latest-1", 1), ("latest-5", 5), ("safe", 3), ("finalized", 6)]
)
async def test_nothing_is_read_beyond_the_cutoff(rig: RaindexRig, cutoff: str, behind: int) -> None:
    reader = rig.reader(cutoff=cutoff)
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(behind)
    assert (await reader.window(rig.start + 1, 100)) is None
    rig.pass_blocks(1)
    found = await rig.read(reader, rig.start + 1)
    assert found.last == rig.start + 1 and len(found.fills) == 1
    assert reader.newest is not None and reader.newest.block == rig.start + 1


@pytest.mark.parametrize("call", [".*", "eth_getLogs"])
async def test_a_node_that_lags_never_answers_for_blocks_that_it_does_not_have(
    rig: RaindexRig, call: str
) -> None:
    """The second is a provider with several nodes behind one address: the height is another one's than the logs."""
    reader = rig.reader()
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(4)
    rig.plan("lag", call, times=-1, blocks=20)
    first = rig.start + 1
    if call == "eth_getLogs":
        with pytest.raises(Retryable, match="unknown block"):
            await reader.window(first, 100)
    else:
        assert await reader.window(first, 100) is None
    rig.running.faults.clear()
    assert len((await rig.read(reader, first)).fills) == 1


async def test_without_asking_by_hash_such_a_provider_loses_a_fill_in_silence(rig: RaindexRig) -> None:
    """The planted defect: a range is asked of a node whose height another one has said."""
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(4)
    rig.plan("lag", "eth_getLogs", times=-1, blocks=20)
    assert (await rig.read(rig.reader(near=0))).fills == []


async def test_of_two_nodes_the_one_that_has_the_blocks_answers(rig: RaindexRig) -> None:
    reader = rig.reader(nodes=2)
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(4)
    rig.plan("lag", "eth_getLogs", times=4, blocks=20)
    assert len((await rig.read(reader)).fills) == 1


async def test_a_reorganisation_is_seen_in_the_hashes_and_what_stands_instead_is_read(
    rig: RaindexRig,
) -> None:
    reader = rig.reader()
    kept = rig.trade("COIN", "sell", "1")
    rig.pass_blocks(2)
    lost = rig.trade("NVDA", "buy", "2")
    moved = rig.trade("NVDA", "sell", "3")
    rig.pass_blocks(3)
    before = await rig.read(reader)
    assert [one.transaction for one in before.fills] == [kept, lost, moved]
    first_new = rig.twin.control("reorganise", {"depth": 4, "drop_only": [lost], "later": 1})["first"]
    rig.pass_blocks(4)
    changed = [block for block, hash_ in before.hashes.items() if await reader.hash_of(block) != hash_]
    assert changed == [block for block in before.hashes if block >= first_new] and changed
    after = await rig.read(reader, first_new)
    assert [(one.transaction, one.block) for one in after.fills] == [(moved, before.fills[-1].block + 1)]
    assert after.parent_hash == rig.twin.chain.hash(first_new - 1)


@pytest.mark.parametrize("near", [0, 16])
async def test_a_chain_that_changes_while_it_is_read_gives_no_window(rig: RaindexRig, near: int) -> None:
    reader = rig.reader(near=near)
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(8)
    asked = rig.twin._block
    calls = 0

    def changing(number: int | None) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            rig.twin.chain.reorganise(9)
        return asked(number)

    rig.twin._block = changing  # type: ignore[method-assign,assignment]
    with pytest.raises(Retryable):
        await reader.window(rig.start, 100)
    assert len((await rig.read(reader)).fills) == 1


async def test_removed_doubled_and_disordered_logs_change_nothing(rig: RaindexRig) -> None:
    gone = rig.trade("COIN", "sell", "9")
    rig.pass_blocks(1)
    rig.twin.control("reorganise", {"depth": 1, "drop": True})
    rig.market.trade([{"symbol": "COIN", "side": "sell", "tokens": f"{n}", "price": 5} for n in (1, 2, 3)])
    rig.pass_blocks(3)
    rig.plan("removed", times=-1)
    rig.plan("jumbled", times=-1)
    for near in (0, 16):
        found = await rig.read(rig.reader(near=near))
        assert [str(one.shares) for one in found.fills] == ["1", "2", "3"]
        assert gone not in {one.transaction for one in found.fills}


async def test_a_range_that_is_too_large_is_split(rig: RaindexRig) -> None:
    for _ in range(20):
        rig.trade("COIN", "sell", "1")
        rig.pass_blocks(20)
    rig.twin.most_blocks = 30
    reader = rig.reader()
    assert len((await rig.read(reader)).fills) == 20
    asked = [one for one in rig.running.faults.calls if one["call"] == "eth_getLogs"]
    rig.running.faults.calls.clear()
    assert len((await rig.read(reader)).fills) == 20
    again = [one for one in rig.running.faults.calls if one["call"] == "eth_getLogs"]
    assert len(again) < len(asked), "what a node serves is remembered"


async def test_windows_begin_small_grow_and_shrink_where_they_are_full(
    rig: RaindexRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("venues.raindex.reader.MOST_LOGS", 12)
    rig.pass_blocks(100)
    for _ in range(10):
        for _ in range(3):
            rig.trade("COIN", "sell", "1")
        rig.pass_blocks(1)
    rig.pass_blocks(100)
    reader, first, sizes, fills = rig.reader(span=8), rig.start, [], 0
    while (window := await reader.window(first, 64)) is not None:
        sizes.append(window.last - window.first + 1)
        fills += len(window.fills)
        first = window.last + 1
    assert fills == 30 and sizes[:4] == [8, 16, 32, 64]
    assert min(sizes[4:-1]) < 64 and max(sizes) == 64, sizes


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (lambda rig: rig.plan("http_429", "eth_getLogs", times=-1, retry_after="3"), Retryable),
        (lambda rig: rig.plan("drop_answer", times=-1), Retryable),
        (lambda rig: rig.plan("garbage", times=-1), NotUnderstood),
        (lambda rig: rig.plan("one_endpoint", "eth_getLogs", times=-1, how="rpc_error", code=-32601), VenueRefused),
        (lambda rig: rig.plan("one_endpoint", "eth_getLogs", times=-1, how="404"), NotUnderstood),
        (lambda rig: rig.plan("field", "eth_getLogs", times=-1, path="result.*.logIndex", missing=True), NotUnderstood),
        (lambda rig: rig.plan("field", "eth_getLogs", times=-1, path="result.*.address", value=OTHER), NotUnderstood),
    ],
)  # fmt: skip
async def test_a_node_that_cannot_be_read_gives_no_window(
    rig: RaindexRig, plan: Callable[[RaindexRig], None], error: type[Exception]
) -> None:
    reader = rig.reader()
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(4)
    plan(rig)
    with pytest.raises(error):
        await reader.window(rig.start, 100)
    rig.running.faults.clear()
    assert len((await rig.read(reader)).fills) == 1


async def test_a_moment_without_an_answer_is_waited_out(rig: RaindexRig) -> None:
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks(4)
    rig.plan("http_429", "eth_getLogs", times=2)
    rig.plan("http_500", "eth_getBlockByNumber", times=2)
    assert len((await rig.read(rig.reader())).fills) == 1


async def test_what_is_none_of_ours_is_counted_and_the_rest_is_read(rig: RaindexRig) -> None:
    coin, nvda = (
        {"symbol": "COIN", "side": "sell", "price": "100"},
        {"symbol": "NVDA", "side": "buy", "price": "9"},
    )
    rig.market.trade(
        [
            coin | {"tokens": "1e-18"},
            coin | {"tokens": "5", "owner": "other"},
            coin | {"tokens": "5", "against": "MSTR"},
            coin | {"packed": [1, 2**31 - 1]},
            coin | {"tokens": "0", "usdc": "0"},
            coin | {"tokens": "0.5", "wallet": True},
            nvda | {"tokens": "3", "kind": "clear", "bounty": "0.1"},
            nvda | {"tokens": "4", "kind": "clear_as_bob"},
            {"symbol": "MSTR", "side": "sell", "price": "300", "tokens": "2"},
        ]
    )
    rig.pass_blocks()
    found = await rig.read(rig.reader("COIN", "NVDA"))
    assert amounts(found) == [
        ("COIN", "sell", "1E-18"),
        ("COIN", "sell", "0.5"),
        ("NVDA", "buy", "3"),
        ("NVDA", "buy", "4"),
    ]
    assert found.skipped == {OTHER_OWNER: 1, FOREIGN_PAIR: 2, ZERO: 1}
    (aside,) = found.quarantined
    assert aside.symbol == "COIN" and "its exponent is 2147483647" in aside.why


async def test_a_token_is_its_address_whatever_it_calls_itself(rig: RaindexRig) -> None:
    rig.twin.control("token", {"symbol": "MSTR", "says": "wtCOIN"})
    rig.twin.control("token", {"symbol": "COIN", "says": "USDC"})
    rig.trade("MSTR", "sell", "7")
    rig.trade("COIN", "sell", "1")
    rig.pass_blocks()
    found = await rig.read(rig.reader("COIN", "NVDA"))
    assert amounts(found) == [("COIN", "sell", "1")] and found.skipped == {FOREIGN_PAIR: 1}


async def test_a_wrapped_token_counts_by_its_ratio_in_the_fills_block(rig: RaindexRig) -> None:
    rig.wrapped = {"COIN"}
    rig.twin.control("token", {"symbol": "COIN", "ratio": "1", "block": 1})
    rig.trade("COIN", "sell", "0.034172366621067031")
    rig.pass_blocks(3)
    rig.twin.control("token", {"symbol": "COIN", "ratio": "1.012345678901234567"})
    rig.trade("COIN", "sell", "0.034172366621067031")
    rig.trade("NVDA", "sell", "2")
    rig.pass_blocks(3)
    found = await rig.read(rig.reader())
    with localcontext(EXACT):
        second = Decimal("0.034172366621067031") * Decimal("1.012345678901234567")
    assert [(one.symbol, one.shares, one.ratio) for one in found.fills] == [
        ("COIN", Decimal("0.034172366621067031"), Decimal(1)),
        ("COIN", second, Decimal("1.012345678901234567")),
        ("NVDA", Decimal(2), Decimal(1)),
    ]
    assert [one["shares"] for one in rig.twin.control("ledger", {})["fills"]][1] == str(second)


@pytest.mark.parametrize("ratio", ["0", "1e9", None])
async def test_a_wrapper_without_a_sound_ratio_stops_its_own_fills_alone(
    rig: RaindexRig, ratio: str | None
) -> None:
    rig.wrapped = {"COIN"}
    if ratio is not None:
        rig.twin.control("token", {"symbol": "COIN", "ratio": ratio, "block": 1})
    rig.trade("COIN", "sell", "1")
    rig.trade("NVDA", "sell", "2")
    rig.pass_blocks()
    found = await rig.read(rig.reader())
    assert amounts(found) == [("NVDA", "sell", "2")]
    assert [one.symbol for one in found.quarantined] == ["COIN"]


async def test_vaults_are_read_and_their_moves_are_ours_alone(rig: RaindexRig) -> None:
    reader = rig.reader()
    rig.market.move_vault("COIN", Decimal("41.25"))
    rig.market.move_vault("COIN", Decimal("7"), owner=OTHER)
    rig.market.move_vault("USDC", Decimal("1000"))
    rig.pass_blocks(2)
    rig.market.move_vault("COIN", Decimal("-1.25"))
    traded = rig.trade("COIN", "sell", "0.000000000000000003", "250")
    rig.pass_blocks(3)
    found = await rig.read(reader)
    assert [(one.kind, one.token == rig.address("COIN"), one.units) for one in found.moves] == [
        ("deposit", True, 41_250_000_000_000_000_000),
        ("deposit", False, 1_000_000_000),
        ("withdraw", True, 1_250_000_000_000_000_000),
    ]
    vault = found.moves[0].vault_id
    assert int(vault, 16) == int.from_bytes(STOCK_VAULT, "big")
    now = await reader.vault_balance(rig.address("COIN"), vault)
    assert str(now) == "39.999999999999999997"
    assert await reader.vault_balance(rig.address("COIN"), 3, rig.start + 1) == Decimal("41.25")
    assert await reader.block_of(traded) == found.fills[0].block
    assert await reader.block_of("0x" + "ab" * 32) is None
