"""Kinds of faults that others reported of requests for tokens, journals and wrappers, each tried on a whole rebalance."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import VenueRefused
from evenkeel.types import IntentSpec, Outcome, Receipt, Signed
from state.hedging.models import RebalanceState
from tasks.hedging.rebalancing.carrying import STUCK
from tests.databases import database_fixtures
from tests.rebalancing_rig import RebalanceRig, rebalancing_rig
from venues.alpaca.moves import AlpacaMoves

databases, url, _store = database_fixtures("sqlite")
D = Decimal
S = RebalanceState


async def approved(rig: RebalanceRig, symbol: str, tokens: str) -> str:
    rig.fill_vault(symbol, tokens)
    [row] = [one for one in (await rig.propose()).rebalances if one.scope == symbol]
    rig.approve(row.name)
    return row.name


async def test_a_journal_whose_status_is_in_no_list_is_neither_done_nor_dead(url: str) -> None:
    """github.com/alpacahq/alpaca-docs issue 29: journals that are `correct`, which nothing explains."""
    async with rebalancing_rig(url) as rig:
        rig.by_journal()
        rig.rebalance["stuck_s"] = 60
        rig.hedging.broker.moves.journal_status = "correct"
        name = await approved(rig, "AAPL", "100")
        for _ in range(8):
            assert (await rig.go(name)).state is S.RUNNING
            rig.hedging.later(10)
        assert (STUCK, name) in rig.alerts() and "is correct" in rig.row(name).done["waits"]
        assert len(rig.hedging.broker.moves.journals) == 1
        rig.hedging.broker.moves.journals[0]["status"] = "executed"
        assert (await rig.to_the_end(name)).state is S.DONE and rig.on_chain("AAPL") == 550


async def test_a_wrapper_that_rounds_leaves_dust_and_nothing_is_promised_that_is_not_there(url: str) -> None:
    """github.com/tradingstrategy-ai/trade-executor pull 1208: what is redeemed is less than was computed."""
    async with rebalancing_rig(url) as rig:
        rig.wrap("TSLA")
        ratio = D("1.333333333333333337")
        rig.fill_vault("TSLA", "9000")
        token = rig.hedging.chain.market.tokens["TSLA"].address
        rig.hedging.chain.wallets.fund(token, "tTSLA", D(4000))
        rig.hedging.chain.control("token", {"symbol": "TSLA", "ratio": str(ratio)})
        rig.hedging.later(4)
        [row] = [one for one in (await rig.propose()).rebalances if one.scope == "TSLA"]
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        steps = {one["kind"]: D(one["amount"]) for one in done.done["steps"]}
        assert steps["withdraw"] * ratio >= steps["unwrap"] > steps["send"] == steps["redeemed"]
        assert rig.at_broker("TSLA") == 1000 + steps["redeemed"]
        assert rig.on_chain("tTSLA", "wallet") == steps["unwrap"] - steps["send"] < D("1e-9")


async def test_an_amount_for_which_a_wrapper_gives_nothing_is_refused_before_a_signature(url: str) -> None:
    """github.com/sherlock-audit/2023-06-tokemak-judging issue 575: a deposit of so little that no share comes of it."""
    async with rebalancing_rig(url) as rig:
        rig.wrap("AAPL")
        rig.hedging.chain.control("token", {"symbol": "AAPL", "ratio": "2"})
        rig.hedging.chain.wallets.fund(rig.owner, "tAAPL", D("1e-18"))
        rig.hedging.later(4)
        async with rig.desk() as rd:
            spec = {"business": "hedging", "subject": "x", "venue": rd.tokens.name, "step": 0}
            token = rd.token("AAPL")
            approve = IntentSpec(intent_id="a", kind="approve", order={"token": token, "units": 1}, **spec)
            await rd.tokens.send(approve, await rd.tokens.sign(approve, await rd.tokens.build(approve)))
            rig.hedging.later(10)
            wrap = IntentSpec(intent_id="w", kind="wrap", order={"token": token, "units": 1}, **spec)
            with pytest.raises(VenueRefused, match="would give nothing"):
                await rd.tokens.build(wrap)


async def test_a_request_for_tokens_whose_answer_is_lost_is_never_made_again(url: str) -> None:
    """docs.alpaca.markets, request by client_request_id: an id may be used again; the newest request is shown."""
    async with rebalancing_rig(url) as rig:
        rig.hedging.timeout_s = 1.0
        name = await approved(rig, "AAPL", "100")
        rig.hedging.fault("alpaca", "drop_answer", "tokens:mint")
        rig.hedging.fault("alpaca", "http_500", "tokens:by_client_id", times=4)
        assert (await rig.to_the_end(name)).state is S.DONE
        assert rig.sent("tokens:mint") == 1 and rig.on_chain("AAPL") == 550


async def test_the_test_before_this_one_finds_a_copy_that_is_sent(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def copy(self: AlpacaMoves, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await self.send(intent, signed)

    monkeypatch.setattr(AlpacaMoves, "resend", copy)
    async with rebalancing_rig(url) as rig:
        rig.hedging.timeout_s = 1.0
        name = await approved(rig, "AAPL", "100")
        rig.hedging.fault("alpaca", "drop_answer", "tokens:mint")
        rig.hedging.fault("alpaca", "http_500", "tokens:by_client_id", times=4)
        await rig.to_the_end(name)
        rig.hedging.later(20)
        assert rig.at_broker("AAPL") == 100, "450 shares were taken twice"


async def test_tokens_that_came_are_not_asked_for_again_while_the_wrapping_fails(url: str) -> None:
    """ST0x-Technology/st0x.liquidity pull 669: six mints, since a later wrap failed and freed the guard."""
    async with rebalancing_rig(url) as rig:
        rig.wrap("AAPL")
        name = await approved(rig, "AAPL", "100")
        rig.hedging.fault("raindex", "http_500", "eth_estimateGas", times=-1)
        for _ in range(12):
            await rig.go(name)
            rig.hedging.later(10)
        assert rig.row(name).state is S.STUCK and rig.sent("tokens:mint") == 1
        found = await rig.propose()
        assert not [one for one in found.rebalances if one.scope == "AAPL"]
        rig.hedging.plan.clear()
        await rig.resume(name)
        assert (await rig.to_the_end(name)).state is S.DONE and rig.on_chain("AAPL") == 550
