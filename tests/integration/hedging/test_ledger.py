"""The ledger of hedging: exposure is what the rows say, whatever is booked, replayed, filled in parts or taken back."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from evenkeel.errors import Bug, LostRace, Retryable
from evenkeel.sealing import StoredToken
from evenkeel.types import IntentSpec, Receipt, Signed, Working
from state.hedging.amounts import EXACT, total
from state.hedging.booking import HedgeBooking
from state.hedging.models import FillRow, RawLogRow
from state.hedging.store import HEDGING
from state.hedging.windows import KEPT_BLOCKS, WindowRows
from state.store import Store
from tests.databases import database_fixtures

databases, url, store = database_fixtures()
CHAIN, CONTRACT = "base", "0x" + "1" * 40
D = Decimal
SHARES = (D("0.3"), D("1e-18"), D("12.5"), D(str(3 * 10**60)).scaleb(-67), D(7))


def fill(block: int, index: int, symbol: str, side: str, shares: Decimal, fork: str = "a") -> FillRow:
    return FillRow(
        chain=CHAIN,
        contract=CONTRACT,
        transaction=f"0x{block:04x}{fork}",
        log_index=index,
        block=block,
        block_hash=f"{fork}{block}",
        at_ms=block * 1000,
        recorded_ms=0,
        kind="take",
        symbol=symbol,
        side=side,
        shares=shares,
        usdc=EXACT.multiply(shares, D(100)),
        token="0x" + "2" * 40,
    )


def window(first: int, last: int, fills: list[FillRow], fork: str = "a", parent: str = "") -> WindowRows:
    logs = [
        RawLogRow(
            chain=CHAIN,
            contract=CONTRACT,
            transaction=one.transaction,
            log_index=one.log_index,
            block=one.block,
            block_hash=one.block_hash,
            topics=["0x01"],
        )
        for one in fills
    ]
    return WindowRows(
        chain=CHAIN,
        contract=CONTRACT,
        first=first,
        last=last,
        last_hash=f"{fork}{last}",
        parent_hash=parent,
        at_ms=last * 1000,
        newest=last,
        hashes={**{one.block: one.block_hash for one in fills}, last: f"{fork}{last}"},
        fills=fills,
        logs=logs,
        skipped={"foreign pair": 1},
    )


def planned(store: Store, symbol: str, side: str, qty: Decimal) -> str:
    step = store.hedging.next_step(symbol)
    spec = IntentSpec(
        intent_id=f"{symbol}-{step}",
        business=HEDGING,
        subject=symbol,
        venue="alpaca",
        kind="hedge",
        step=step,
        order={"symbol": symbol, "side": side, "qty": str(qty), "marked_ms": 0},
    )
    store.plan_intent(spec)
    return spec.intent_id


def filled(store: Store, intent_id: str, done: Decimal, price: Decimal, *, final: bool) -> None:
    receipt = Receipt(ref=f"order-{intent_id}", done_qty=done, avg_price_usd=price, settled_ms=5)
    booking = HedgeBooking(receipt)
    if final:
        store.confirm(intent_id, receipt, booking=booking)
    else:
        store.record_working(intent_id, Working("working", 5.0, receipt), booking=booking)


def check(store: Store) -> None:
    for one in store.hedging.exposures():
        again = store.hedging.recomputed(one.symbol)
        assert one.open_shares == again.open_shares
        every = store.hedging.fills(one.symbol, live_only=False)
        way = {"buy": D(1), "sell": D(-1)}
        chain = total(EXACT.multiply(way[row.side], row.shares) for row in every)
        hedged = total(EXACT.multiply(way[row.side], row.qty) for row in store.hedging.hedges(one.symbol))
        assert one.open_shares == EXACT.add(chain, hedged)


@pytest.mark.parametrize("seed", range(6))
def test_exposure_is_what_the_rows_say_in_any_history(store: Store, seed: int) -> None:
    random, at, fork = Random(seed), 100, "a"
    forks: dict[int, str] = {}
    for _ in range(25):
        act = random.random()
        if act < 0.5:
            last = at + random.randrange(4)
            fills = [
                fill(
                    number,
                    index,
                    random.choice("XY"),
                    random.choice(("buy", "sell")),
                    random.choice(SHARES),
                    fork,
                )
                for number in range(at, last + 1)
                for index in range(random.randrange(3))
            ]
            store.hedging.book_window(window(at, last, fills, fork))
            before = store.hedging.exposures()
            assert not store.hedging.book_window(window(at, last, fills, fork)).fills, (
                "a replay books nothing"
            )
            assert store.hedging.exposures() == before
            forks.update(dict.fromkeys(range(at, last + 1), fork))
            at = last + 1
        elif act < 0.65 and forks:
            at = max(min(forks), at - random.randrange(1, 8))
            store.hedging.reverse_from(CHAIN, CONTRACT, at)
            fork = chr(ord(fork) + 1)
        else:
            symbol = random.choice("XY")
            if store.hedging.open_order(symbol) is None and store.hedging.exposure(symbol).open_shares:
                qty = D(random.randrange(1, 20))
                intent_id = planned(store, symbol, random.choice(("buy", "sell")), qty)
                store.record_ready(intent_id, {}, Signed({"client_order_id": intent_id}, None).key)
                done = D(0)
                for _ in range(random.randrange(3)):
                    done = min(qty, done + D(random.randrange(1, 9)) / 4)
                    filled(store, intent_id, done, D("99.125"), final=False)
                    filled(store, intent_id, done / 2, D("99.125"), final=False)  # an older answer
                filled(store, intent_id, qty * D("1.25"), D("99.5"), final=True)
                filled(store, intent_id, qty * D("1.25"), D("99.5"), final=True)
                rows = store.hedging.hedges(intent_id=intent_id)
                assert total(row.usd for row in rows) == qty * D("1.25") * D("99.5")
        check(store)


def test_a_window_that_leaves_a_gap_or_continues_another_chain_is_refused(store: Store) -> None:
    hedging = store.hedging
    hedging.book_window(window(100, 110, [fill(105, 1, "X", "buy", D(1))]))
    with pytest.raises(Bug, match="would be left out"):
        hedging.book_window(window(112, 115, []))
    with pytest.raises(Retryable, match="has changed"):
        hedging.book_window(window(111, 115, [], parent="b110"))
    with pytest.raises(Retryable, match="has changed"):
        hedging.book_window(window(100, 110, [fill(105, 1, "X", "buy", D(1), "b")], "b"))
    assert [one.number for one in hedging.kept_hashes(CHAIN, CONTRACT, below=200)] == [110, 105]
    hedging.book_window(window(111, 115, [], parent="a110"))
    cursor = hedging.cursor(CHAIN, CONTRACT)
    assert cursor is not None and (cursor.next_block, cursor.skipped) == (116, {"foreign pair": 2})


def test_a_block_that_moved_to_another_is_one_fill(store: Store) -> None:
    hedging = store.hedging
    one = fill(105, 1, "X", "buy", D(2))
    hedging.book_window(window(100, 110, [one]))
    assert [row.shares for row in hedging.reverse_from(CHAIN, CONTRACT, 103)] == [D(2)]
    assert hedging.exposure("X").open_shares == 0
    moved = one.model_copy(update={"block": 107, "block_hash": "b107"})
    hedging.book_window(window(103, 110, [moved], "b"))
    assert hedging.exposure("X").open_shares == 2
    assert [row.block for row in hedging.fills("X")] == [107]
    assert len(hedging.fills("X", live_only=False)) == 3
    check(store)


def test_old_hashes_go_and_those_of_fills_stay(store: Store) -> None:
    hedging = store.hedging
    hedging.book_window(window(1, 1, [fill(1, 0, "X", "buy", D(1))]))
    with store.one_transaction():
        for number in range(2, KEPT_BLOCKS + 20):
            hedging.book_window(window(number, number, []))
    kept = hedging.kept_hashes(CHAIN, CONTRACT, below=10**9, most=10**6)
    assert len(kept) == KEPT_BLOCKS + 1 and (kept[-1].number, kept[-1].hash) == (1, "a1")


def test_a_symbol_has_one_open_hedge(store: Store) -> None:
    first = planned(store, "X", "buy", D(1))
    with pytest.raises(LostRace, match="X has an open hedge"):
        planned(store, "X", "buy", D(1))
    planned(store, "Y", "buy", D(1))
    store.fail_unsent(first, "not wanted")
    assert store.hedging.open_order("X") is None
    again = planned(store, "X", "sell", D(2))
    open_now = store.hedging.open_order("X")
    assert open_now is not None and open_now.intent_id == again


def test_shares_without_a_price_are_not_guessed(store: Store) -> None:
    intent_id = planned(store, "X", "buy", D(1))
    store.record_ready(intent_id, {}, {"client_order_id": "1"})
    receipt = Receipt(ref="1", done_qty=D(1), avg_price_usd=None, settled_ms=1)
    with pytest.raises(Bug, match="no price that can be read"):
        store.confirm(intent_id, receipt, booking=HedgeBooking(receipt))
    assert not store.hedging.hedges() and not store.hedging.exposure("X").open_shares
    assert store.intent(intent_id).state == "SUBMITTING"


@pytest.mark.parametrize("price", [D(0), D(-3), D(1)])
def test_what_was_paid_does_not_fall_and_is_never_nothing(store: Store, price: Decimal) -> None:
    intent_id = planned(store, "X", "buy", D(4))
    store.record_ready(intent_id, {}, {"client_order_id": "1"})
    filled(store, intent_id, D(2), D(100), final=False)
    for final in (False, True):
        with pytest.raises(Bug, match=r"does not fall|no price"):
            filled(store, intent_id, D(3), price, final=final)
    assert [one.usd for one in store.hedging.hedges()] == [200] and store.hedging.exposure(
        "X"
    ).open_shares == 2
    filled(store, intent_id, D(4), D(100), final=True)
    check(store)


def test_a_fill_of_less_than_a_cent_says_no_price_where_one_is_known(store: Store) -> None:
    least = fill(101, 0, "X", "buy", D("1e-18")).model_copy(update={"usdc": D("1e-20")})
    store.hedging.book_window(window(100, 101, [least]))
    assert store.hedging.exposure("X").price_usd == D("0.01"), "of nothing else it is all there is"
    whole, last = fill(102, 0, "X", "buy", D(3)), least.model_copy(update={"block": 103, "at_ms": 103_000})
    last = last.model_copy(update={"transaction": "0xfe", "block_hash": "a103"})
    store.hedging.book_window(window(102, 103, [whole, last]))
    assert store.hedging.exposure("X").price_usd == 100
    assert store.hedging.recomputed("X").price_usd == 100


def test_the_oldest_open_fill_is_the_one_that_no_hedge_covers(store: Store) -> None:
    rows = [fill(100 + n, 0, "X", "sell", D(2)) for n in range(4)] + [fill(110, 0, "X", "buy", D(1))]
    store.hedging.book_window(window(100, 110, rows))
    for shares, block in ((D(0), 100), (D(3), 102), (D(3), 103)):
        if shares:
            intent_id = planned(store, "X", "buy", shares)
            store.record_ready(intent_id, {}, {"client_order_id": intent_id})
            filled(store, intent_id, shares, D(100), final=True)
        oldest = store.hedging.oldest_open("X")
        assert oldest is not None and oldest.block == block


def test_a_login_has_one_writer(store: Store) -> None:
    hedging = store.hedging
    hedging.keep_token(StoredToken("schwab", 1, "sealed", 1, 2))
    hedging.keep_token(StoredToken("schwab", 2, "again", 1, 3))
    for version in (1, 2, 4):
        with pytest.raises(LostRace):
            hedging.keep_token(StoredToken("schwab", version, "late", 1, 4))
    assert hedging.token("schwab") == StoredToken("schwab", 2, "again", 1, 3)
