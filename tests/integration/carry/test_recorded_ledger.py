"""The ledger of a whole trade, made by the program of schema 0002, upgraded: nothing is lost, and the report is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, localcontext
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from analytics.carry.attribution import Attribution, VenueChange, attribute, plain
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import VenueName
from state.engine import head_revision
from state.fills import Owner
from state.store import Store
from tasks.carry.books.report import (
    life_events,
    life_snapshots,
    long_events,
    long_marks,
    lost_answers,
    margin_seized_usd,
    naked,
    short_fills,
)
from tasks.carry.books.report_reading import Booked, read_booked
from tasks.carry.desk import CarryDesk
from tests.databases import KINDS, ManualClock
from tests.former_schema import SUMMARY, Rows, broken_references, recorded_ledger, rows_of, upgraded

ZERO = Decimal(0)
EMPTY = {"breaches", "liquidations", "pauses"}
"""Tables in which that trade left no row; `test_former_schema.py` fills them."""
FROM_VENUES = {
    "gas",
    "net_usd",
    "paid_usd",
    "costs_usd",
    "venue_change_usd",
    "net_apr",
    "residual_gas_usd",
    "residual_usd",
}
"""Figures for which the report asks the chain what a transaction took beside its fee."""


class Ledger(NamedTuple):
    """The same trade before the upgrade, as rows, and after it."""

    url: str
    before: Rows
    store: Store
    position_id: str

    @property
    def booked(self) -> Booked:
        """What the report reads of the ledger; of the desk it takes only the ledger and the time."""
        desk = cast(CarryDesk, SimpleNamespace(store=self.store, clock=self.store.clock))
        return read_booked(desk, self.store.carry.position(self.position_id))

    def of(self, table: str) -> list[dict[str, Any]]:
        """Rows of a table before the upgrade that belong to the position."""
        return [row for row in self.before[table].values() if row["position_id"] == self.position_id]


@pytest.fixture(scope="module", params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with recorded_ledger(request.param, tmp_path_factory.mktemp("recorded")) as url:
        before = rows_of(url)
        assert Store.upgrade(url) == head_revision()
        store = Store.open(url, ManualClock(1_768_000_000_000))
        (position,) = store.carry.positions()
        yield Ledger(url, before, store, position.position_id)
        store.close()


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return dict(json.loads(SUMMARY.read_text()))


def total(values: Any) -> Decimal:
    """The exact sum, whatever the number of digits; stored texts are read as they are."""
    with localcontext() as context:
        context.prec = 60
        return sum((Decimal(value) for value in values if value is not None), ZERO)


def product(first: Any, second: Any) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return Decimal(first) * Decimal(second)


def test_every_row_is_there_under_its_key_with_every_value_in_its_place(ledger: Ledger) -> None:
    assert {table for table, rows in ledger.before.items() if not rows} == EMPTY
    after, expected = rows_of(ledger.url), upgraded(ledger.before)
    assert after.keys() == expected.keys()
    for table, rows in expected.items():
        assert after[table].keys() == rows.keys(), table
        for key, row in rows.items():
            assert after[table][key] == row, f"{table} {key}"


def test_every_reference_leads_to_a_row(ledger: Ledger) -> None:
    assert broken_references(ledger.url) == []
    after = rows_of(ledger.url)
    positions, intents = {key[0] for key in after["positions"]}, {key[0] for key in after["intents"]}
    for table in ("intents", "fills", "fees"):
        assert {row["subject"] for row in after[table].values()} == positions, table
    for table in ("legs", "funding_payments", "position_snapshots", "lending_changes"):
        assert {row["position_id"] for row in after[table].values()} == positions, table
    for table in ("attempts", "fills", "fees", "lending_changes"):
        assert {row["intent_id"] for row in after[table].values()} <= intents, table
    moved = {row["entity_id"] for row in after["transitions"].values() if row["entity"] == "intent"}
    assert moved == intents


def test_sums_of_the_position_are_the_same_to_the_last_digit(ledger: Ledger) -> None:
    store, position_id = ledger.store, ledger.position_id
    assert total(one.usdc for one in store.carry.funding_payments(position_id=position_id)) == total(
        row["usdc"] for row in ledger.of("funding_payments")
    )
    fills = store.fills_of(CARRY, position_id)
    for leg in LegSide:
        for side in ("buy", "sell"):
            now = [row for row in fills if (row.part, row.side) == (leg, side)]
            then = [row for row in ledger.of("fills") if (row["leg"], row["side"]) == (leg, side)]
            assert len(now) == len(then) > 0
            assert total(row.qty for row in now) == total(row["qty"] for row in then)
            assert total(row.fee_usd for row in now) == total(row["fee_usd"] for row in then)
            assert total(product(row.qty, row.price_usd) for row in now) == total(
                product(row["qty"], row["price_usd"]) for row in then
            )
    fees = store.fees(CARRY, position_id)
    assert total(fee.amount_usd for fee in fees) == total(row["amount_usd"] for row in ledger.of("fees"))
    assert total(fee.native_amount for fee in fees if fee.native_unit == "lamports") == total(
        row["lamports"] for row in ledger.of("fees")
    )
    for table, rows in (
        ("lending_changes", store.carry.lending_changes(position_id)),
        ("position_snapshots", store.carry.snapshots(position_id)),
    ):
        then = ledger.of(table)
        figures = {name for name in then[0] if name.endswith(("_usd", "_qty", "_delta", "_lamports", "_sol"))}
        figures |= {
            name for name in then[0] if name.startswith("tokens_") or "distance" in name or "rate" in name
        }
        assert len(figures) >= 9
        for name in sorted(figures):
            assert total(getattr(row, name) for row in rows) == total(row[name] for row in then), (
                f"{table} {name}"
            )


def test_the_store_reads_the_position_as_it_was_left(ledger: Ledger, summary: dict[str, Any]) -> None:
    store, position_id = ledger.store, ledger.position_id
    (position,) = store.carry.positions()
    (then,) = ledger.of("positions")
    assert position.position_id == summary["position"]["id"]
    assert position.status is PositionStatus.CLOSED
    assert (position.long_venue, position.short_venue) == (VenueName.ASGARD, VenueName.HYPERLIQUID)
    assert position.long_account == then["facts"]["accounts"]["solana"]
    assert position.short_account == then["facts"]["accounts"]["hyperliquid"]
    assert position.underlying == "SOL"
    assert store.intent_counts() == summary["intents"]
    assert store.unfinished_intents(CARRY) == [] and store.carry.open_legs() == []
    assert {one.account for one in store.carry.funding_payments(position_id=position_id)} == {
        position.short_account
    }
    assert len(store.alerts()) == 2 and store.alerts(open_only=True) == []
    for intent in store.intents_of(CARRY, position_id):
        assert [one.n for one in store.attempts_of(intent.intent_id)] == list(range(1, intent.attempts + 1))


def test_the_report_of_the_position_is_the_one_that_was_recorded(
    ledger: Ledger, summary: dict[str, Any]
) -> None:
    store, of_report = ledger.store, ledger.booked
    position = store.carry.position(ledger.position_id)
    found = attribution_of(ledger)
    recorded = summary["attribution"]
    shown = found.as_strings()
    assert shown.keys() == recorded.keys()
    for name in recorded.keys() - FROM_VENUES:
        assert shown[name] == recorded[name], name
    for place in ("residual_hyperliquid_usd", "residual_solana_usd"):
        assert shown[place] == "0.000000"
    # The recorded figures differ only by the gas that no row explains: the wallet's change, which the chain knew.
    beside = Decimal(recorded["gas"]) - found.items["gas"]
    assert beside < 0
    for name in ("net_usd", "paid_usd", "costs_usd"):
        assert plain(Decimal(shown[name]) + beside) == recorded[name], name
    booked = total(fee.amount_usd for fee in store.fees(CARRY, position.position_id) if fee.kind == "gas")
    assert plain(-found.items["gas"]) == plain(booked)

    assert found.checks == [] and not found.is_open
    assert position.close_reason == summary["position"]["exit_reason"]
    assert position.status == summary["position"]["status"]
    assert len(store.carry.funding_payments(position_id=position.position_id)) == summary["funding_payments"]
    assert len(position.facts["rebalances"]) == summary["rebalances"]
    assert len(lost_answers(of_report)) == summary["duplicates_prevented"]
    fills = [row for row in store.fills_of(CARRY, position.position_id) if row.venue == VenueName.HYPERLIQUID]
    assert len(fills) + summary["funding_payments"] == summary["rows_compared"]
    kinds = [event.kind for event in life_events(of_report)]
    assert sorted(kinds) == ["enter", "exit", "lost answer", "rebalance", "rebalance"]
    assert len(life_snapshots(store.carry.snapshots(position.position_id))) == 411
    assert 0 < naked(of_report).longest_seconds < 120


def attribution_of(ledger: Ledger) -> Attribution:
    """As the report makes it, without what it asks the venues: no lamports beside those that are booked."""
    position = ledger.store.carry.position(ledger.position_id)
    before, after, of_report = position.facts["before"], position.facts["after"], ledger.booked
    return attribute(
        long_events=long_events(of_report),
        short_fills=short_fills(of_report),
        funding=ledger.store.carry.funding_payments(position_id=position.position_id),
        venue=VenueChange(
            hyperliquid_before_usd=Decimal(before["hyperliquid_usd"]),
            hyperliquid_after_usd=Decimal(after["hyperliquid_usd"]),
            wallet_usdc_before=Decimal(before["wallet_usdc"]),
            wallet_usdc_after=Decimal(after["wallet_usdc"]),
            sol_lamports_spent=int(before["wallet_lamports"]) - int(after["wallet_lamports"]),
            sol_price_after_usd=Decimal(1),
        ),
        capital_usd=Decimal(position.facts["capital_usd"]),
        opened_ms=position.opened_ms or 0,
        ended_ms=position.closed_ms or 0,
        long_marks=long_marks(of_report.snapshots),
        margin_seized_usd=margin_seized_usd(of_report),
    )


def test_what_is_collected_again_is_known(ledger: Ledger) -> None:
    """A venue shows the same fills and payments to the new program, now with the account: no row is made twice."""
    store, position_id = ledger.store, ledger.position_id
    position = store.carry.position(position_id)
    before = rows_of(ledger.url)
    short = [row.fill for row in store.fills_of(CARRY, position_id) if row.venue == VenueName.HYPERLIQUID]
    assert store.record_fills(short, Owner(account=position.short_account)) == 0
    assert store.carry.record_funding(store.carry.funding_payments(position_id=position_id), position_id) == 0
    assert rows_of(ledger.url) == before
