"""Steps of a rebalance that go otherwise than asked for, are lost or are taken up by another process."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError
from evenkeel.types import IntentSpec
from state.hedging.models import RebalanceState
from tasks.hedging.rebalancing.carrying import STUCK
from tasks.hedging.rebalancing.desk import rebalance_desk
from tasks.intents import carry_out
from tests.databases import database_fixtures
from tests.interruptions import Killed, die, hooked
from tests.rebalancing_rig import rebalancing_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal
S = RebalanceState


async def test_a_mint_counts_by_what_came_and_not_by_what_was_asked_for(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.issuer.mint_fee = D("0.25")
        rig.wrap("AAPL")
        rig.fill_vault("AAPL", "100")
        rig.hedging.chain.control("token", {"symbol": "AAPL", "ratio": "1.000000000000000001"})
        rig.hedging.later(4)
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        amounts = {one["kind"]: D(one["amount"]) for one in done.done["steps"]}
        assert amounts["mint"] == row.amount and amounts["arrive"] == row.amount - D("0.25")
        assert amounts["wrap"] < amounts["arrive"], "rounded down by the wrapper"
        assert rig.on_chain("AAPL") == 100 + amounts["deposit"] and amounts["deposit"] == amounts["wrap"]
        assert rig.on_chain("AAPL", "wallet") == 0 == rig.on_chain("tAAPL", "wallet")


async def test_an_approval_that_is_left_is_taken_back_before_the_next(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.hedging.chain.wallets.is_strict = True
        rig.fill_vault("AAPL", "100")
        await rig.propose()
        async with rig.desk() as rd:
            token = rd.token("AAPL")
            spec = IntentSpec(
                intent_id="left", business="hedging", subject="left", venue=rd.vaults.name, kind="approve", step=0,
                order={"token": token, "units": 5},
            )  # fmt: skip
            rd.at.desk.store.plan_intent(spec)
            await carry_out(rd.at.desk, "left", None)
            assert await rd.vaults.allowed(token) == 5
        name = next(one.name for one in rig.hedging.store.hedging.rebalances() if one.scope == "AAPL")
        rig.approve(name)
        assert (await rig.to_the_end(name)).state is S.DONE and rig.on_chain("AAPL") == 550


async def test_a_conversion_that_is_filled_in_part_is_cancelled_and_the_part_goes_on(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        row = await rig.usdc_approved()
        rig.hedging.fault("alpaca", "partial", "order:USDCUSD", fraction="0.4", then="stay")
        done = await rig.to_the_end(row.name, goes=80)
        assert done.state is S.DONE and D(done.done["steps"][0]["amount"]) == D(180_000)
        assert rig.on_chain("USDC") == D(280_000) - D("0.1")


async def test_too_little_to_be_paid_out_stays_and_its_scope_is_free(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance |= {"least_usd": "1", "least_withdrawal_usdc": "51"}
        row = await rig.usdc_approved()
        rig.hedging.fault("alpaca", "partial", "order:USDCUSD", fraction="0.0001", then="cancel")
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE and "45 USDC were converted, below the 51" in done.why
        assert rig.sent("transfers:create") == 0 and rig.at_broker("USDCUSD") == 45


async def test_a_payment_of_which_nobody_knows_waits_for_a_person_who_cannot_give_up_what_is_there(
    url: str,
) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance["stuck_s"] = 60
        row = await rig.usdc_approved()
        rig.hedging.timeout_s = 1.0
        rig.hedging.fault("alpaca", "drop_request", "transfers:create")
        for _ in range(12):
            await rig.go(row.name)
            rig.hedging.later(10)
        assert (STUCK, row.name) in rig.alerts() and rig.sent("transfers:create") == 1, "never sent again"
        rig.hedging.later(60)
        await rig.unsent(row.name)
        assert (await rig.to_the_end(row.name)).state is S.DONE
        assert rig.sent("transfers:create") == 2
        assert sum(D(one["amount"]) for one in rig.transfers()) == 450_000, "paid once"


async def test_a_payment_whose_answer_was_lost_is_found_and_not_given_up(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.rebalance["stuck_s"] = 60
        row = await rig.usdc_approved()
        rig.hedging.timeout_s = 1.0
        rig.hedging.fault("alpaca", "drop_answer", "transfers:create")
        rig.hedging.fault("alpaca", "http_500", "transfers:list", times=-1)
        for _ in range(6):
            await rig.go(row.name)
            rig.hedging.later(15)
        rig.hedging.plan.clear()
        with pytest.raises(OperatorError, match="may be it"):
            await rig.unsent(row.name)
        assert (await rig.to_the_end(row.name)).state is S.DONE and len(rig.transfers()) == 1


async def test_other_brokers_are_refused_in_one_line(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.settings()
        for changes, says in (
            ({"broker": "dry-run", "rebalance": {}}, "rebalancing is off"),
            ({"rebalance": {**rig.hedging.settings["rebalance"], "vaults": {}}}, "vaults is empty"),
            ({"broker": "schwab", "schwab": {"account": "123"}}, "no other moves shares and USDC"),
        ):
            rig.settings()
            rig.hedging.settings |= changes
            with pytest.raises((OperatorError, ValueError), match=says):
                async with rebalance_desk(rig.hedging.given(), rig.hedging.clock, rig.hedging.store):
                    pass


async def test_an_approval_under_way_is_followed_to_its_end_by_the_next_process(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "AAPL"]
        rig.approve(row.name)
        with hooked(rig.hedging.store, "mark_submitted", skip=1, after=die):
            for _ in range(6):
                with contextlib.suppress(Killed):
                    await rig.go(row.name)
                rig.hedging.later(10)
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE and not rig.hedging.store.unfinished_intents("hedging")
