"""Rebalances before the twins: each way, by receipts, each step once, forward only; what a person says is proved."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError
from state.hedging.models import RebalanceState
from tasks.admin import halt
from tasks.hedging.books import books_of
from tasks.hedging.rebalancing.carrying import STUCK, TO_BRIDGE, bridged, resume
from tasks.hedging.rebalancing.proposing import PROPOSED
from tasks.hedging.reconciling import reconcile_hedging
from tests.databases import database_fixtures
from tests.rebalancing_rig import CASH, rebalancing_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal
S = RebalanceState


async def test_shares_become_tokens_in_the_vault(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        found = await rig.propose()
        [row] = [one for one in found.rebalances if one.scope == "AAPL"]
        assert (row.direction, row.amount, row.state) == ("to-chain", D(450), S.PROPOSED)
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert (done.state, done.why) == (S.DONE, row.why)
        assert (rig.at_broker("AAPL"), rig.on_chain("AAPL"), rig.on_chain("AAPL", "wallet")) == (550, 550, 0)
        assert [one["kind"] for one in done.done["steps"]] == ["mint", "arrive", "deposit"]


async def test_tokens_become_shares_again_and_a_wrapper_counts_by_its_worth(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.wrap("TSLA")
        rig.fill_vault("TSLA", "9000")
        rig.hedging.chain.wallets.fund(
            rig.hedging.chain.market.tokens["TSLA"].address, "tTSLA", D(9000)
        )  # a split: what is inside is worth twice
        rig.hedging.chain.control("token", {"symbol": "TSLA", "ratio": "2"})
        rig.hedging.later(4)
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "TSLA"]
        # 18,000 shares on chain and 1,000 at the broker: 8,500 too many, the bound is 1,000.
        assert (row.direction, row.amount) == ("to-broker", D(1000))
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert [(one["kind"], D(one["amount"])) for one in done.done["steps"]] == [
            ("withdraw", 500),
            ("unwrap", 1000),
            ("send", 1000),
            ("redeemed", 1000),
        ]
        assert (rig.at_broker("TSLA"), rig.on_chain("TSLA"), rig.on_chain("tTSLA", "wallet")) == (
            2000,
            8500,
            0,
        )


async def test_dollars_become_usdc_in_the_vault_by_a_bridge_that_a_person_crosses(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("USDC", "100000")
        held = (await rig.propose()).holds["USDC"]
        assert "whitelist" in held
        async with rig.desk() as rd:
            await rd.transfers.allow(rd.wallet)
        rig.hedging.later(10)
        cash = rig.at_cash()
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "USDC"]
        assert (row.direction, row.amount) == ("to-chain", D(450_000))
        rig.approve(row.name)
        while (TO_BRIDGE, row.name) not in rig.alerts():
            await rig.go(row.name)
            rig.hedging.later(10)
        for amount, says in (("450000", "holds 0"), ("450000.1", "at most 450000"), ("0", "more than 0")):
            async with rig.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
                with pytest.raises(OperatorError, match=says):
                    await bridged(rd, row.name, D(amount), "a person", fence)
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE
        assert rig.on_chain("USDC") == D("549999.9") and rig.at_broker("USDCUSD") == 0
        assert rig.at_cash() == cash - D(450_000) * D("1.01"), "at the ask"
        fees = {one.kind: one.amount_usd for one in rig.hedging.store.fees("hedging", "USDC")}
        assert fees == {"conversion": D(4500), "bridge": D("0.1")}
        assert books_of(rig.hedging.store).fees_usd == D("4500.1")
        assert not rig.alerts() & {(TO_BRIDGE, row.name), (STUCK, row.name)}


async def test_usdc_of_the_vault_becomes_dollars(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("USDC", "9000000")
        cash = rig.at_cash()
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "USDC"]
        assert (row.direction, row.amount) == ("to-broker", D(1_000_000)), "the most of one proposal"
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE and rig.on_chain("USDC") == D(8_000_000)
        assert rig.at_cash() == cash + D("999999.9") * D("0.99"), "at the bid"


async def test_shares_go_by_journal_where_another_account_has_the_wallets(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        other = rig.by_journal()
        rig.fill_vault("AAPL", "100")
        rig.fill_vault("NVDA", "4000")
        found = {one.scope: one for one in (await rig.propose()).rebalances}
        row = found["AAPL"]
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE
        assert [one["kind"] for one in done.done["steps"]] == ["journal", "mint", "arrive", "deposit"]
        assert (rig.at_broker("AAPL"), other.held("AAPL"), rig.on_chain("AAPL")) == (550, 0, 550)
        moved = rig.hedging.store.hedging.moved_at_broker()
        assert moved == {"AAPL": D(-450)}, "of the account that hedges"
        row = found["NVDA"]
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert [one["kind"] for one in done.done["steps"]] == ["withdraw", "send", "redeemed", "journal-back"]
        assert (rig.at_broker("NVDA"), rig.on_chain("NVDA")) == (2000, 3000)


async def test_dollars_go_by_journal_from_a_proposal_to_the_books(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        other = rig.by_journal()
        rig.rebalance["conversion_bps"] = (
            "60"  # the twin's ask is a per cent above, and there are no other dollars
        )
        rig.fill_vault("USDC", "100000")
        async with rig.desk() as rd:
            await rd.transfers.allow(rd.wallet)
        rig.hedging.later(10)
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "USDC"]
        assert (row.direction, row.amount) == ("to-chain", D(450_000))
        async with rig.desk() as rd:
            assert not (await reconcile_hedging(rd.at)).differences
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE
        assert [one["kind"] for one in done.done["steps"]] == [
            "journal",
            "convert",
            "pay-out",
            "bridge",
            "deposit",
        ]
        bought = D(450_000) * D("0.988")
        assert rig.on_chain("USDC") == 100_000 + bought - D("0.1")
        assert other.cash == 450_000 - bought * D("1.01"), "what the conversion left"
        [journal] = rig.hedging.broker.moves.journals
        assert (journal["entry_type"], D(journal["net_amount"])) == ("JNLC", 450_000)
        assert rig.hedging.store.hedging.moved_at_broker() == {"USD": D(-450_000)}
        assert rig.at_cash() == CASH - 450_000
        fees = {one.kind for one in rig.hedging.store.fees("hedging", "USDC")}
        assert {"conversion", "bridge"} <= fees
        await rig.read_chain()
        async with rig.desk() as rd:
            after = await reconcile_hedging(rd.at)
        assert not after.differences and not [one for one in after.left_out if "cash" in one]


async def test_dollars_come_back_by_journal_to_the_cent(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        other = rig.by_journal()
        rig.fill_vault("USDC", "9000000.123456")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "USDC"]
        async with rig.desk() as rd:
            assert not (await reconcile_hedging(rd.at)).differences
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert [one["kind"] for one in done.done["steps"]] == [
            "withdraw",
            "bridge",
            "convert",
            "journal-back",
        ]
        dollars = D("999999.9") * D("0.99")
        cents = dollars.quantize(D("0.01"), rounding="ROUND_DOWN")
        assert rig.at_cash() == CASH + cents and other.cash == dollars - cents
        assert rig.hedging.store.hedging.moved_at_broker() == {"USD": cents}
        await rig.read_chain()
        async with rig.desk() as rd:
            assert not (await reconcile_hedging(rd.at)).differences


async def test_reconciling_counts_what_was_moved(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        rig.fill_vault("USDC", "500000")
        found = await rig.propose()
        async with rig.desk() as rd:
            assert not (await reconcile_hedging(rd.at)).differences
        [row] = [one for one in found.rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        await rig.go(row.name)
        async with rig.desk() as rd:
            middle = await reconcile_hedging(rd.at)
        assert not middle.differences and row.name in middle.left_out["AAPL at alpaca-broker"]
        await rig.to_the_end(row.name)
        await rig.read_chain()
        async with rig.desk() as rd:
            after = await reconcile_hedging(rd.at)
        assert not after.differences and "AAPL at alpaca-broker" not in after.left_out


# --- deciding ---------------------------------------------------------------------------------------------------


async def test_one_is_open_for_a_scope_and_what_nobody_decides_on_lapses(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        assert (PROPOSED, row.name) in rig.alerts()
        again = await rig.propose()
        assert row.name in again.holds["AAPL"] and not [
            one for one in again.rebalances if one.scope == "AAPL"
        ]
        with pytest.raises(OperatorError, match="not approved"):
            await rig.go(row.name)
        rig.hedging.later(3601)
        with pytest.raises(OperatorError, match="older than"):
            rig.approve(row.name)
        later = await rig.propose()
        assert row.name in later.lapsed and rig.row(row.name).state is S.LAPSED
        assert (PROPOSED, row.name) not in rig.alerts()
        [newer] = [one for one in later.rebalances if one.scope == "AAPL"]
        assert newer.name != row.name


async def test_auto_approves_within_the_cap_of_a_day(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance |= {"auto": True, "auto_usd_a_day": "130000"}
        rig.fill_vault("AAPL", "100")  # 450 shares: 117,000 USD
        rig.fill_vault("NVDA", "100")  # 450 shares: 85,500 USD
        found = {one.scope: one for one in (await rig.propose()).rebalances}
        assert (found["AAPL"].state, found["AAPL"].decided_by) == (S.APPROVED, "auto")
        assert found["NVDA"].state is S.PROPOSED
        text = next(one.text for one in rig.hedging.store.alerts() if one.subject == found["NVDA"].name)
        assert "202500.00 USD would be approved by itself" in text
        assert (await rig.to_the_end(found["AAPL"].name)).state is S.DONE


async def test_while_hedging_is_paused_nothing_is_proposed_or_begun(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        halt(rig.hedging.store, "a person", "alpaca-broker", "a look at the books", None)
        assert (await rig.go(row.name)).state is S.APPROVED
        assert "paused" in (await rig.propose()).holds["NVDA"]
        assert rig.sent("tokens:mint") == 0


# --- what goes wrong --------------------------------------------------------------------------------------------


async def test_what_is_refused_before_anything_moved_is_over_and_its_scope_free(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        rig.hedging.broker.control("give", {"symbol": "AAPL", "qty": "-900"})
        over = await rig.go(row.name)
        assert over.state is S.REFUSED and "insufficient position" in over.why
        assert rig.at_broker("AAPL") == 100 and rig.on_chain("AAPL") == 100


async def test_after_a_step_it_goes_forward_only_and_a_person_resumes_what_is_stuck(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        rig.rebalance["most_gas_gwei"] = "0.001"  # the chain asks for more than is allowed
        while len(rig.row(row.name).done.get("steps", [])) < 2:
            await rig.go(row.name)
            rig.hedging.later(10)
        rig.hedging.later(1800)
        assert (await rig.go(row.name)).state in (S.RUNNING, S.STUCK)
        assert (STUCK, row.name) in rig.alerts()
        for _ in range(20):
            if (await rig.go(row.name)).state is S.STUCK:
                break
        assert rig.row(row.name).state is S.STUCK
        assert not [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"], (
            "its scope is taken"
        )
        rig.rebalance["most_gas_gwei"] = "1"
        async with rig.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            resume(rd, row.name, "a person", fence)
        assert (await rig.to_the_end(row.name)).state is S.DONE
        assert rig.on_chain("AAPL") == 550 and (STUCK, row.name) not in rig.alerts()
