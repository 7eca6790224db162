"""A pass before the twins: sessions, residue, parts, reorganisations, symbols that stand alone, replays."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from evenkeel.errors import LostRace, OperatorError
from tasks.admin import ENTRIES, end_pauses, halt
from tasks.hedging.calendar import NO_CALENDAR
from tasks.hedging.orders import BLOCKED
from tasks.hedging.passing import OPEN_TOO_LONG, PAUSED, REMOVED, UNREAD_CHAIN, pass_once
from tasks.hedging.reading import QUARANTINED, REORGANISED, read_blocks
from tasks.hedging.running.silence import SILENT, say_silence
from tasks.intents import NotDone
from tests.databases import database_fixtures
from tests.hedging_rig import SYMBOLS, HedgingRig, hedging_rig
from tests.integration.hedging.test_stories import until_flat
from tests.interruptions import hooked

databases, url, _store = database_fixtures("sqlite")
D = Decimal


def kinds(rig: HedgingRig) -> set[tuple[str, str]]:
    return {(one.kind, one.subject) for one in rig.store.alerts(open_only=True)}


async def test_opposite_fills_are_no_order_and_a_residue_is_kept(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.settings["symbols"] = {
            one: {
                "token": rig.chain.market.tokens[one].address,
                "most_shares": "100",
                "threshold_shares": "1",
            }
            for one in SYMBOLS
        }
        rig.trade("AAPL", "sell", "5")
        rig.trade("AAPL", "buy", "5")
        report = await rig.one_pass()
        assert report.progress.fills == 2 and not report.orders
        for part in ("0.3", "0.4"):
            rig.trade("NVDA", "sell", part)
            assert not (await rig.one_pass()).orders
        rig.trade("NVDA", "sell", "0.4")
        assert list((await rig.one_pass()).orders) == ["NVDA"]
        rig.later(20)
        await rig.one_pass()
        assert rig.store.hedging.exposure("NVDA").open_shares == 0
        rig.check()


async def test_whole_shares_where_the_symbol_has_no_parts(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.broker.control("asset", {"symbol": "TSLA", "fractionable": False, "tradable": True})
        rig.trade("TSLA", "buy", "2.6")
        await rig.one_pass()
        rig.later(20)
        await rig.one_pass()
        assert rig.store.hedging.exposure("TSLA").open_shares == D("0.6")
        assert [one.qty for one in rig.account.orders] == [2]
        rig.check(is_flat=False)
        async with rig.desk() as at:
            for _ in range(2):
                rig.later(at.settings.alert_open_s + 1)
                assert not (await rig.passes(at, None, 1)).orders
        assert not kinds(rig), "less than a share of what is traded in whole ones is a residue, and no alarm"


async def test_fills_of_a_closed_night_are_one_order_at_the_open(url: str) -> None:
    night = int(datetime(2026, 1, 7, 2, tzinfo=UTC).timestamp() * 1000)
    async with hedging_rig(url, start_ms=night) as rig:
        for _ in range(3):
            rig.trade("AAPL", "sell", "2")
            report = await rig.one_pass()
            assert not report.orders and report.progress.fills == 1
        assert report.holds == {"AAPL": "the market is closed"} and not kinds(rig)
        rig.world.clock.advance_to(int(datetime(2026, 1, 7, 14, 30, 5, tzinfo=UTC).timestamp() * 1000))
        await until_flat(rig)
        assert [(one.side, one.qty) for one in rig.account.orders] == [("buy", 6)]


async def test_an_exposure_whose_order_is_refused_again_and_again_says_so(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "2")
        refused = {"status": 403, "code": 40310000, "message": "insufficient buying power"}
        rig.fault("alpaca", "refuse", times=9, **refused)
        for _ in range(2):
            await rig.one_pass()
            rig.later(400)
        await rig.one_pass()
        [said] = [one.text for one in rig.store.alerts(open_only=True) if one.kind == OPEN_TOO_LONG]
        assert said.endswith(
            "its order was not taken: not enough buying power: insufficient buying power (HTTP 403, code 40310000)"
        )


async def test_without_a_calendar_nothing_leaves_and_one_alert_says_so(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "2")
        rig.fault("alpaca", "http_500", "calendar.*", times=-1)
        for _ in range(3):
            report = await rig.one_pass()
            rig.later(30)
        assert not report.orders and rig.store.hedging.exposure("AAPL").open_shares == -2
        assert (NO_CALENDAR, "alpaca") in kinds(rig)
        rig.plan.clear()
        await until_flat(rig)
        assert (NO_CALENDAR, "alpaca") not in kinds(rig)


async def test_a_login_that_is_over_ends_no_pass(url: str) -> None:
    def over() -> None:
        raise OperatorError("the login is over")

    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "2")
        async with rig.desk() as at:
            with hooked(at.broker, "calendar", before=over):
                report = await pass_once(at, None)
            assert not report.orders and report.progress.fills == 1 and (NO_CALENDAR, "alpaca") in kinds(rig)
            with hooked(at.broker, "cash", before=over):
                report = await pass_once(at, None)
            assert report.holds == {"AAPL": "the broker's cash could not be read"}
        await until_flat(rig)


async def test_what_is_cancelled_in_part_is_hedged_by_the_next(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "10")
        rig.fault("alpaca", "partial", fraction="0.3", then="cancel", after_s=5)
        await until_flat(rig)
        assert [one.qty for one in rig.account.orders] == [10, 7]


async def test_a_broker_that_fills_more_is_believed_and_hedged_back(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "10")
        rig.fault("alpaca", "overfill", factor="1.2")
        await until_flat(rig)
        assert [(one.side, one.qty) for one in rig.account.orders] == [("buy", 10), ("sell", 2)]


async def test_a_fill_that_the_chain_takes_back_is_hedged_back(url: str) -> None:
    async with hedging_rig(url) as rig:
        gone = rig.trade("AAPL", "sell", "4")
        kept = rig.trade("AAPL", "sell", "1")
        await until_flat(rig)
        rig.chain.control("reorganise", {"depth": 30, "drop_only": [gone]})
        rig.later(20)
        await until_flat(rig)
        assert (REORGANISED, "base") in kinds(rig)
        live = rig.store.hedging.fills("AAPL")
        assert [one.transaction for one in live] == [kept]
        every = rig.store.hedging.fills("AAPL", live_only=False)
        assert sum(one.shares for one in every) == 1 and len([one for one in every if one.reversal_of]) >= 1
        assert rig.shares_at_broker() == {"AAPL": D(1)}


async def test_one_symbol_in_trouble_holds_up_no_other(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.broker.control("asset", {"symbol": "AAPL", "fractionable": True, "tradable": False})
        for symbol in SYMBOLS:
            rig.trade(symbol, "sell", "2")
        report = await rig.one_pass()
        assert isinstance(report.orders["AAPL"], NotDone)
        rig.later(20)
        for _ in range(3):
            report = await rig.one_pass()
            rig.later(5)
        assert {one.symbol for one in rig.store.hedging.exposures() if not one.open_shares} == set(
            SYMBOLS
        ) - {"AAPL"}
        assert (BLOCKED, "AAPL") in kinds(rig) and "AAPL" in report.holds
        refused = [one for one in rig.store.hedging.orders("AAPL") if one.state == "FAILED"]
        assert len(refused) <= 3
        rig.broker.control("asset", {"symbol": "AAPL", "fractionable": True, "tradable": True})
        rig.later(900)
        await until_flat(rig)
        assert (BLOCKED, "AAPL") not in kinds(rig)


async def test_buys_stay_within_the_cash_and_the_rest_is_reported_with_its_age(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.account.cash = D(1000)
        rig.trade("AAPL", "sell", "10")
        for _ in range(8):
            await rig.one_pass()
            rig.later(60)
        bought = rig.shares_at_broker()["AAPL"]
        assert D(3) < bought < D(4) and rig.account.cash >= 0
        said = next(one for one in rig.store.alerts(open_only=True) if one.kind == OPEN_TOO_LONG)
        assert "cash of" in said.text and said.subject == "AAPL"
        rig.account.cash = D(100_000)
        rig.later(60)
        await until_flat(rig)
        assert (OPEN_TOO_LONG, "AAPL") not in kinds(rig)


async def test_nothing_is_sold_that_is_not_held(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.broker.control("give", {"symbol": "AAPL", "qty": "-997"})
        rig.trade("AAPL", "buy", "10")
        for _ in range(3):
            report = await rig.one_pass()
            rig.later(20)
        assert rig.shares_at_broker() == {"AAPL": D(-3)} and "nothing is sold short" in report.holds["AAPL"]
        rig.check(is_flat=False)


async def test_a_symbol_that_is_removed_while_it_is_open_stays_watched(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "2")
        rig.fault("alpaca", "slow", seconds=300)
        await rig.one_pass()
        given = rig.given().hedging.symbols
        rig.settings["symbols"] = {name: one.model_dump() for name, one in given.items() if name != "AAPL"}
        report = await rig.one_pass()
        assert report.removed == ["AAPL"] and (REMOVED, "AAPL") in kinds(rig)
        rig.later(300)
        await rig.one_pass()
        assert not rig.store.hedging.exposure("AAPL").open_shares and (REMOVED, "AAPL") not in kinds(rig)


async def test_a_replay_of_any_blocks_changes_nothing(url: str) -> None:
    async with hedging_rig(url) as rig:
        for symbol in SYMBOLS:
            rig.trade(symbol, "sell", "2")
            rig.trade(symbol, "buy", "1.5")
        await until_flat(rig)
        before = (rig.store.hedging.fills(live_only=False), rig.store.hedging.exposures())
        cursor = rig.store.hedging.cursors()[0]
        async with rig.desk() as at:
            for first, last in ((rig.start, cursor.next_block - 1), (rig.start + 3, rig.start + 9)):
                assert (await read_blocks(at, first, last, None)).fills == 0
            with pytest.raises(OperatorError, match="are not read yet"):
                await read_blocks(at, cursor.next_block + 5, cursor.next_block + 9, None)
        assert before == (rig.store.hedging.fills(live_only=False), rig.store.hedging.exposures())
        assert rig.store.hedging.cursors() == [cursor]


async def test_a_wrapped_token_counts_by_its_ratio_and_an_absurd_amount_is_put_aside(url: str) -> None:
    async with hedging_rig(url) as rig:
        token = rig.chain.market.tokens["NVDA"].address
        rig.settings["symbols"] = {
            "NVDA": {"token": token, "most_shares": "100", "wrapped": True},
            "AAPL": {"token": rig.chain.market.tokens["AAPL"].address, "most_shares": "100"},
        }
        rig.chain.control("token", {"symbol": "NVDA", "ratio": "1.02", "says": "USDC"})
        rig.later(4)
        rig.trade("NVDA", "sell", "10")
        rig.trade("AAPL", "sell", "1e-18", price="100")
        rig.trade("TSLA", "sell", "3")
        await rig.one_pass()
        assert rig.store.hedging.exposure("NVDA").open_shares == D("-10.2")
        assert rig.store.hedging.exposure("AAPL").open_shares == D("-1e-18")
        assert rig.store.hedging.cursors()[0].skipped == {"foreign pair": 1}
        assert QUARANTINED not in {kind for kind, _ in kinds(rig)}


async def test_a_chain_that_cannot_be_read_is_reported_and_open_orders_are_asked(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "2")
        await rig.one_pass()
        rig.fault("raindex", "http_500", "eth_getBlockByNumber", times=-1)
        async with rig.desk() as at:
            for _ in range(4):
                report = await pass_once(at, None)
                rig.later(30)
            assert report.chain_fault and not rig.store.hedging.exposure("AAPL").open_shares
            assert (UNREAD_CHAIN, "base") in kinds(rig)
            assert say_silence(rig.store, at.settings, report.chain_fault, 0) and (
                SILENT,
                "hedging",
            ) in kinds(rig)
            rig.plan.clear()
            await pass_once(at, None)
        assert not kinds(rig) & {(UNREAD_CHAIN, "base"), (SILENT, "hedging")}


async def test_two_processes_on_one_account_are_one(url: str) -> None:
    async with hedging_rig(url) as rig, rig.desk() as at, rig.desk() as other:
        async with at.desk.exclusive(at.lease, "hedging"):
            with pytest.raises(LostRace, match="hedging is being handled by"):
                async with other.desk.exclusive(other.lease, "hedging"):
                    raise AssertionError
        rig.settings["broker"] = "dry-run"
        with pytest.raises(OperatorError, match="a ledger of its own"):
            async with rig.desk():
                raise AssertionError


async def test_the_account_is_known_by_the_brokers_id_and_the_chain_is_read_while_the_broker_is_away(
    url: str,
) -> None:
    async with hedging_rig(url) as rig:
        await rig.one_pass()
        bound = rig.store.hedging.bound_account()
        assert bound is not None and bound.account == rig.keys["account_id"]
        rig.fault("alpaca", "http_500", times=1000)
        rig.trade("AAPL", "sell", "3")
        report = await rig.one_pass()
        assert report.progress.fills == 1 and not report.orders


@pytest.mark.parametrize("scope", ["all", "alpaca"])
async def test_a_pause_sends_no_hedge_and_says_what_is_open_until_it_ends(url: str, scope: str) -> None:
    async with hedging_rig(url) as rig:
        await rig.one_pass()
        pause = halt(rig.store, "a person", scope, "the broker moves house")
        rig.trade("AAPL", "sell", "3")
        report = await rig.one_pass()
        assert report.progress.fills == 1 and not report.orders
        assert report.holds["AAPL"] == f"paused ({scope}): the broker moves house"
        assert (PAUSED, "alpaca") in kinds(rig)
        end_pauses(rig.store, "a person", pause.scope, "it has moved")
        assert "AAPL" in (await rig.one_pass()).orders
        assert (PAUSED, "alpaca") not in kinds(rig)


async def test_a_pause_of_entries_is_none_of_hedges(url: str) -> None:
    async with hedging_rig(url) as rig:
        halt(rig.store, "a person", ENTRIES, "no new positions today")
        rig.trade("AAPL", "sell", "3")
        assert "AAPL" in (await rig.one_pass()).orders
