"""Five hundred lives of positions: the items are the change in equity to the cent, however late each thing was booked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from analytics.carry.attribution import Attribution
from evenkeel.legs import CARRY, IntentKind, LegReceipt, LegSide, LegView
from state.carry.liquidation_models import Liquidation
from state.carry.models import Position, PositionSnapshot
from state.database import values_of
from state.fills import Owner
from state.ledger import PRICES, RATES
from state.ledger_models import Fee, FillRow, PriceSnapshot
from state.store import Store
from strategy.carry.reconcile import Holding, Placed, Seized
from tasks.carry.booking import CarryBookkeeper
from tasks.carry.books.collect import AT_FILL
from tasks.carry.books.external_long import seizure_row
from tasks.carry.books.external_short import SEIZED_MARGIN
from tasks.carry.books.movements import Movements
from tasks.carry.books.report import attributed, long_events, short_fills
from tasks.carry.books.report_reading import Balances, Booked, Held, read_booked
from tasks.carry.mark import Mark
from tests.carry.histories import FUNDED, PDA, Happened, History
from tests.carry.lived import LATEST_HOURS, lived
from tests.carry.market_path import HOUR_MS, LenderOnPath, PerpOnPath
from tests.databases import ManualClock, make_ledger

D = Decimal
HISTORIES = 500
BLOCK = 50
"""So many to a test."""
THROUGH_THE_LEDGER = 10
CENT = D("0.01")
T0 = 1_757_203_200_000
APART_MS = 100 * HOUR_MS
Late = Callable[[Happened], int]
"""By how many ms the booking of a thing is late."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("histories") / "ledger.db"
    make_ledger(f"sqlite:///{path}")
    return f"sqlite:///{path}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(Store.open(url, ManualClock(T0))) as opened:
        yield opened


def prompt(_: Happened) -> int:
    return 0


def late_at_random(seed: int) -> Late:
    """Any subset of the bookings, by anything from a minute to hours."""
    chance = Random(seed)

    def late(_: Happened) -> int:
        return chance.choice((0, chance.randint(16_000, LATEST_HOURS * HOUR_MS - 120_000)))

    return late


class Books:
    """One history as it comes to be booked by a desk's bookkeeper, from the market that its venues show."""

    def __init__(self, store: Store, life: History, *, silent: frozenset[str] = frozenset()) -> None:
        assert isinstance(store.clock, ManualClock)
        self.store, self.life, self.clock = store, life, store.clock
        self.perp = PerpOnPath(life.path, self.clock, silent=silent)
        lender = LenderOnPath(life.path, self.clock, silent=bool(silent))
        self.keeper = CarryBookkeeper(store, self.clock, lender, self.perp)  # type: ignore[arg-type]
        self.clock.ms = life.began_ms
        name = life.position_id
        if store.carry.find_position(name) is None:
            store.carry.create_position(
                name, asset=life.path.asset, leverage=D(3), facts={"capital_usd": "10000"}
            )
            prices, rates = life.path.readings()
            with store._write(
                None
            ) as db:  # in two statements: a row at a time takes longer than all the rest
                db.execute(PRICES.insert(), [values_of(row) for row in prices])
                db.execute(RATES.insert(), [values_of(row) for row in rates])
        self.position: Position = store.carry.position(name)

    async def mark_late(self, at_ms: int, late_ms: int, of: str, fill_px: Decimal | None) -> Mark:
        self.clock.ms = at_ms + late_ms
        ask = getattr(self.keeper.marks, of)
        mark: Mark = await ask(self.position, at_ms, fill_px=fill_px)
        return mark

    async def seizure(self, one: Happened, late_ms: int) -> Liquidation:
        taken = dict(one.seizure or {})
        before = Holding(tokens=taken["tokens_before"], debt_usd=taken["debt_before_usd"])
        after = Holding(tokens=taken["tokens_after"], debt_usd=taken["debt_after_usd"])
        seized = Seized(
            ref=taken["ref"],
            at_ms=one.at_ms,
            tokens=before.tokens - after.tokens,
            repaid_usd=before.debt_usd - after.debt_usd,
            price_usd=taken["price_usd"],
        )
        mark = await self.mark_late(one.at_ms, late_ms, "of_long", None)
        placed = Placed(seized=seized, at_ms=one.at_ms, before=before, after=after)
        return seizure_row(self.position, placed, mark)

    async def rows(self, late: Late) -> Booked:
        """Everything as the ledger would hold it, without the ledger's own transactions."""
        intents, fills, seizures, prices = [], list[FillRow](), [], {}
        owner = {"business": CARRY, "subject": self.life.position_id, "part": LegSide.SHORT}
        for one in self.life.happened:
            late_ms = late(one)
            if one.seizure is not None:
                seizures.append(await self.seizure(one, late_ms))
            elif one.forced is not None:
                mark = await self.mark_late(one.at_ms, late_ms, "of_short", one.forced.price_usd)
                prices[one.at_ms] = mark.sol_price_usd
                fills.append(FillRow(**one.forced.columns, **owner))
            else:
                assert one.intent is not None and one.receipt is not None
                self.clock.ms = one.at_ms + late_ms
                prepared = await self.keeper.prepare(one.intent, one.receipt, final=False)
                result = prepared.receipt.model_dump(mode="json")
                intents.append(one.intent.model_copy(update={"result": result}))
                if one.intent.part == LegSide.SHORT:
                    rows = [FillRow(**fill.columns, **owner) for fill in one.receipt.fills]
                    fills += [row.model_copy(update={"intent_id": one.intent.intent_id}) for row in rows]
        return Booked(
            position=self.position,
            now_ms=self.life.at_ms,
            intents=intents,
            attempts={one.intent_id: [] for one in intents},
            short_fills=fills,
            foreign_fill_ids=frozenset(),
            fees=self.fees(),
            funding=self.life.funding,
            liquidations=seizures,
            snapshots=self.snapshots(),
            leg_moves=[],
            prices_at_fills=prices,
        )

    def fees(self) -> list[Fee]:
        kept, name = self.life.lost_margin, self.life.position_id
        fee = {
            "kind": SEIZED_MARGIN,
            "fee_key": f"{SEIZED_MARGIN}:{name}",
            "business": CARRY,
            "subject": name,
        }
        return [Fee(**fee, amount_usd=kept, at_ms=self.life.at_ms)] if kept else []

    def snapshots(self) -> list[PositionSnapshot]:
        path = self.life.path
        return [
            PositionSnapshot(
                position_id=self.life.position_id,
                at_ms=at_ms,
                long_price_usd=path.oracle(at_ms),
                short_price_usd=path.mid(at_ms),
                detail={
                    "tokens": str(tokens),
                    "debt_usd": str(debt),
                    "token_price_usd": str(path.token(at_ms)),
                    "redemption_rate": str(path.rate(at_ms)),
                },
            )
            for at_ms, tokens, debt in self.life.snapshots
        ]

    async def through_the_ledger(self, late: Late) -> Booked:
        """The same, each by the transactions that the product makes, in the order in which they came to be booked."""
        store, name = self.store, self.life.position_id
        for one in self.life.happened:
            late_ms = late(one)
            if one.seizure is not None:
                row = await self.seizure(one, late_ms)
                leg = store.carry.leg(name, LegSide.LONG)
                assert leg is not None
                store.carry.record_liquidations([row], leg.model_copy(update={"qty": row.tokens_after}), "")
            elif one.forced is not None:
                mark = await self.mark_late(one.at_ms, late_ms, "of_short", one.forced.price_usd)
                store.record_fills([one.forced], Owner(CARRY, name, LegSide.SHORT, account="0xa"))
                price = {"venue": "hyperliquid", "asset": "SOL", "kind": AT_FILL, "at_ms": one.at_ms}
                store.record_prices([PriceSnapshot(**price, price_usd=mark.sol_price_usd)])
                leg = store.carry.leg(name, LegSide.SHORT)
                assert leg is not None
                store.carry.put_leg(leg.shrunk(one.forced.qty, one.at_ms))
            else:
                assert one.intent is not None and one.receipt is not None
                self.clock.ms = one.at_ms + late_ms
                intent = store.plan_intent(one.intent.spec)
                store.record_ready(intent.intent_id, {}, {})
                prepared = await self.keeper.prepare(intent, one.receipt, final=True)
                store.confirm(intent.intent_id, prepared.receipt, booking=prepared.booking)
        store.carry.record_funding(self.life.funding, name)
        for fee in self.fees():
            store.record_fee(fee)
        for seen in self.snapshots():
            store.carry.record_snapshots([seen])
        desk: Any = type("Desk", (), {"store": store, "clock": self.clock})
        self.clock.ms = self.life.at_ms
        return read_booked(desk, self.position)

    def account(self, booked: Booked) -> Attribution:
        """The account of it, against what both venues hold at the end."""
        life, at_ms = self.life, self.life.at_ms
        view = None
        if life.tokens:
            view = LegView(
                venue="asgard",
                side=LegSide.LONG,
                ref=PDA,
                asset=life.path.asset,
                qty=life.tokens,
                exposure_sol=life.tokens,
                price_usd=life.path.token(at_ms),
                notional_usd=D(0),
                equity_usd=D(0),
                leverage=D(3),
                liquidation_price_usd=None,
                liquidation_distance=None,
                debt_usd=life.debt,
                observed_ms=at_ms,
            )
        held = Held(
            before=Balances(FUNDED, FUNDED, 10**9, life.began_ms),
            after=Balances(life.short_value, life.wallet_usdc, life.lamports, at_ms),
            mark=Mark(
                at_ms=at_ms,
                sol_price_usd=life.path.oracle(at_ms),
                token_price_usd=life.path.token(at_ms),
                redemption_rate=life.path.rate(at_ms),
            ),
            short_mark_usd=life.path.mid(at_ms),
            open_long=view,
            moved=Movements(deposits_usd=D(0), unplaced=()),
            unread="",
            lamports_taken=self.lamports_taken(booked),
        )
        return attributed(booked, held, long_events(booked), short_fills(booked))

    @staticmethod
    def lamports_taken(booked: Booked) -> dict[str, int]:
        taken = {}
        for intent in booked.intents:
            receipt = LegReceipt.model_validate(intent.result)
            if receipt.lending is not None:
                taken[intent.intent_id] = receipt.lending.gas_lamports + receipt.lending.tip_lamports
        return taken


def assert_items_are_the_change_in_equity(life: History, found: Attribution) -> None:
    """By the model's own accounts, which know of no item."""
    equity = life.wallet_usdc + life.short_value + life.long_equity - 2 * FUNDED - life.gas_usd
    assert abs(sum(found.items.values(), D(0)) - equity) < CENT, (life.position_id, found.net_usd, equity)
    assert found.agrees and not found.checks, (life.position_id, found.as_strings(), found.checks)
    assert found.is_open == bool(life.tokens or life.short)


def assert_same_items(life: History, found: Attribution, as_before: Attribution) -> None:
    for name, usd in as_before.items.items():
        assert abs(found.items[name] - usd) < CENT / 2, (life.position_id, name, found.items[name], usd)


@pytest.mark.parametrize("block", range(HISTORIES // BLOCK))
def test_items_are_the_change_in_equity_and_a_late_booking_leaves_each_as_it_was(
    store: Store, block: int
) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        life = lived(seed, T0 + seed * APART_MS)
        in_time = Books(store, life)
        found = in_time.account(asyncio.run(in_time.rows(prompt)))
        assert_items_are_the_change_in_equity(life, found)
        late = Books(store, life)
        again = late.account(asyncio.run(late.rows(late_at_random(seed))))
        assert_items_are_the_change_in_equity(life, again)
        assert_same_items(life, again, found)


def test_the_lives_hold_everything_that_can_happen() -> None:
    lives = [lived(seed, T0) for seed in range(60)]
    happened = [one for life in lives for one in life.happened]
    receipts = [one.receipt for one in happened if one.receipt is not None]
    everything = {"open_long", "close_long", "partial_close", "increase_leverage", "repay_debt", "trade"}
    assert {receipt.detail.get("op", "trade") for receipt in receipts} == everything
    assert any(one.seizure for one in happened) and any(one.forced for one in happened)
    assert any(len(receipt.fills) > 1 for receipt in receipts), "filled in parts"
    assert any(life.lost_margin for life in lives)
    assert {bool(life.tokens) for life in lives} == {True, False}, "closed and still held"


def test_the_same_through_the_ledgers_own_transactions(store: Store) -> None:
    """Planned, confirmed and read back as the product does it: what stands in the ledger gives the same account."""
    for seed in range(HISTORIES, HISTORIES + THROUGH_THE_LEDGER):
        life = lived(seed, T0 + seed * APART_MS)
        books, late = Books(store, life), late_at_random(seed)
        booked = asyncio.run(books.through_the_ledger(late))
        assert [row.fill_id for row in booked.short_fills], "a short was sold"
        found = books.account(booked)
        assert_items_are_the_change_in_equity(life, found)
        assert_same_items(life, found, books.account(asyncio.run(books.rows(prompt))))


SILENCES = [
    (frozenset[str](), "candle of 60 s less the premium of its hour"),
    (frozenset({"candles"}), "between stored"),
    (frozenset({"candles", "funding", "context"}), "between stored"),
]


@pytest.mark.parametrize(("silent", "source"), SILENCES, ids=["none", "one", "all"])
def test_a_booking_takes_the_next_source_where_one_is_silent(
    store: Store, silent: frozenset[str], source: str
) -> None:
    """In the order that is written down, and the mark says which it was."""
    life = lived(7, T0 + (HISTORIES + 100 + len(silent)) * APART_MS)
    life.position_id = f"silent{len(silent)}"
    books = Books(store, life, silent=silent)
    at_ms = life.path.start_ms + 2 * HOUR_MS + 20 * 60_000 + 17_000
    mark = asyncio.run(books.mark_late(at_ms, 3 * HOUR_MS, "of_long", None))
    assert source in mark.source, mark
    spread = max(life.path.prices[120:181]) - min(life.path.prices[120:181])
    assert abs(mark.sol_price_usd - life.path.oracle(at_ms)) <= spread
    if not silent:
        assert mark.sol_price_usd == round(life.path.oracle(at_ms), 9)
    asked = len(books.perp.asked)
    asyncio.run(books.mark_late(at_ms + 10_000, 3 * HOUR_MS, "of_long", None))
    assert len(books.perp.asked) == asked, "neither what was listed nor what was silent is asked for again"


def test_hundred_sol_filled_at_200_and_booked_at_190_have_no_basis(store: Store) -> None:
    """Filled while perpetual and SOL stood at 200; booked 45 minutes later at 190."""
    life = History("p190", lived(1, T0 + (HISTORIES + 300) * APART_MS).path, Random(1))
    minute = (life.began_ms - life.path.start_ms) // 60_000
    life.path.prices = [D(200)] * (minute + 40) + [D(190)] * (len(life.path.prices) - minute - 40)
    life.path.premiums = [D(0)] * len(life.path.premiums)
    life.trade(IntentKind.OPEN, D(-100))
    life.trade(IntentKind.CLOSE, D(100))
    books = Books(store, life)
    booked = asyncio.run(books.rows(lambda _: 45 * 60_000))
    assert books.clock.ms > life.at_ms and life.path.oracle(books.clock.ms) == 190
    found = books.account(booked)
    assert_items_are_the_change_in_equity(life, found)
    assert found.items["basis"] == found.items["price_short"] == 0, found.items
    assert found.items["slippage_short"] < 0
