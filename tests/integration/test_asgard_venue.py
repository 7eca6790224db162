"""The Asgard venue end to end: opens, resizes and closes that agree with the lender's own books."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import pairwise

import httpx
import pytest

from evenkeel.errors import Retryable, VenueRefused
from evenkeel.legs import IntentKind, LegSide
from evenkeel.types import Confirmed, Receipt, Rejected, Signed, Unknown
from tests.integration.asgard_bench import Bench, bench
from venues.asgard.orders import (
    AddCollateral,
    AsgardOrder,
    CloseLong,
    Deleverage,
    IncreaseLeverage,
    PartialClose,
    RepayDebt,
)
from venues.solana.transactions import UnsafeBuild


async def leg(b: Bench) -> object:
    [view] = await b.venue.legs()
    return view


def books_agree(receipt: Receipt, truth: dict) -> None:
    """The receipt against the lender's own record of the same transaction."""
    change = receipt.lending
    assert change is not None
    assert change.tokens_after == change.tokens_before + (
        change.swap_token_qty if truth["token_bought"] > 0 else -change.swap_token_qty
    )
    assert change.tokens_after == truth["tokens_after"]
    assert change.tokens_before == truth["tokens_before"]
    assert change.debt_before_usd == truth["debt_before_usd"]
    assert change.debt_after_usd == truth["debt_after_usd"]
    assert change.swap_token_qty == truth["token_bought"] + truth["token_sold"]
    assert change.swap_usdc_qty == truth["swap_usdc_in"] + truth["swap_usdc_out"]
    assert change.wallet_usdc_delta == truth["wallet_usdc_delta"]
    assert change.protocol_fee_usd == truth["protocol_fee_usd"]
    assert change.gas_lamports >= truth["gas_lamports"] and change.tip_lamports == truth["tip_lamports"]


@pytest.mark.parametrize("asset", ["SOL", "jitoSOL"])
async def test_the_whole_life_of_a_position(asset: str) -> None:
    async with bench() as b:
        if asset == "jitoSOL":
            b.put_stake_pool(asset, total=1_220_000_000, supply=1_000_000_000)
        before = await b.venue.wallet_balances()
        opened = await b.run(await b.open_order(asset=asset, jito_tip_lamports=10_000))
        assert isinstance(opened, Confirmed), opened
        receipt = opened.value
        books_agree(receipt, b.truth(receipt))
        [fill] = receipt.fills
        assert (fill.side, fill.qty, fill.asset) == ("buy", receipt.done_qty, asset)
        assert receipt.avg_price_usd is not None
        assert abs(receipt.avg_price_usd / b.price(asset) - 1) < D("0.001")
        assert b.record(receipt.ref).entry_metadata is None  # the receipt did not wait for it

        await b.clock.sleep(3600 * 24)
        view = await leg(b)
        assert (view.asset, view.ref, view.side, view.protocol) == (asset, receipt.ref, LegSide.LONG, 1)
        assert view.qty > receipt.done_qty and D("2.98") < view.leverage < D("3.02")
        assert view.liquidation_distance is not None and D("0.1") < view.liquidation_distance < D("0.2")
        assert view.entry_price_usd is not None
        assert abs(view.entry_price_usd - receipt.avg_price_usd) < D("0.000001")
        rate = D(str(b.world.redemption_rate(asset)))
        assert view.exposure_sol == pytest.approx(view.qty * rate, rel=D("1e-9"))

        common = {"asset": asset, "protocol": 1, "position_pda": receipt.ref}
        for order in (
            PartialClose(**common, close_percentage=40),
            Deleverage(**common, target_leverage=D("2.5")),
            IncreaseLeverage(**common, target_leverage=D(3)),
            AddCollateral(**common, collateral_usdc=D(200)),
            RepayDebt(**common, repay_usdc=D(50)),
        ):
            await b.clock.sleep(3600)
            changed = await b.run(order)
            assert isinstance(changed, Confirmed), (order.op, changed)
            books_agree(changed.value, b.truth(changed.value))
            assert changed.value.ref == receipt.ref
        await b.clock.sleep(3600)
        closed = await b.run(CloseLong(**common))
        assert isinstance(closed, Confirmed), closed
        books_agree(closed.value, b.truth(closed.value))
        assert closed.value.fills[0].side == "sell"
        assert await b.venue.legs([(1, receipt.ref)]) == []
        after = await b.venue.wallet_balances()
        moved = sum(r["wallet_usdc_delta"] for r in b.executions(receipt.ref))
        await b.clock.sleep(20)
        after = await b.venue.wallet_balances()
        assert after.usdc - before.usdc == moved
        assert before.sol_lamports > after.sol_lamports


@pytest.mark.parametrize("protocol", [0, 2])
async def test_only_kamino_can_be_resized(protocol: int) -> None:
    async with bench() as b:
        opened = await b.run(await b.open_order(protocol=protocol))
        assert isinstance(opened, Confirmed), opened
        books_agree(opened.value, b.truth(opened.value))
        order = PartialClose(
            asset="SOL", protocol=protocol, position_pda=opened.value.ref, close_percentage=50
        )
        calls = len(b.faults.calls)
        with pytest.raises(VenueRefused, match="only Kamino"):
            await b.run(order)
        assert len(b.faults.calls) == calls
        assert await b.venue.can_build(order) is not None  # and the venue says so too
        closed = await b.run(CloseLong(asset="SOL", protocol=protocol, position_pda=opened.value.ref))
        assert isinstance(closed, Confirmed)
        books_agree(closed.value, b.truth(closed.value))


SUBMIT = "POST /submit-create-position-tx"


@pytest.mark.parametrize(
    "kind", ["drop_answer", "drop_request", "http_500", "http_500_after", "garbage", "http_429"]
)
async def test_a_broken_submit_still_opens_exactly_once(kind: str) -> None:
    async with bench() as b:
        b.fault("asgard", kind, SUBMIT)
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed), opened
        books_agree(opened.value, b.truth(opened.value))
        assert b.live_positions() == 1


@pytest.mark.parametrize("kind", ["drop_answer", "drop_request", "http_500", "http_500_after", "garbage"])
async def test_both_ways_broken_is_unknown_until_the_same_bytes_land(kind: str) -> None:
    async with bench(wait_s=1) as b:
        b.fault("asgard", "drop_request", SUBMIT)
        b.fault("solana", kind, "rpc:sendTransaction")
        intent = b.intent(await b.open_order())
        signed = await b.venue.sign(intent, await b.venue.build(intent))
        first = await b.venue.send(intent, signed)
        assert isinstance(first, Confirmed | Unknown)
        again = await b.venue.resend(intent, signed)
        assert isinstance(again, Confirmed)
        assert await b.venue.resend(intent, signed) == again
        found = await b.venue.find(intent, Signed(signed.key, None))
        assert isinstance(found, Confirmed) and found.value.lending == again.value.lending
        await b.clock.sleep(60)
        assert b.live_positions() == 1


async def test_refused_and_lost_it_is_rejected_only_with_the_proof() -> None:
    async with bench(wait_s=2) as b:
        b.fault("asgard", "submit_lost", SUBMIT, times=-1)
        b.chain.control("drop_next", {"n": 1_000})
        intent = b.intent(await b.open_order())
        signed = await b.venue.sign(intent, await b.venue.build(intent))
        assert isinstance(await b.venue.send(intent, signed), Unknown)
        restarted = Signed(signed.key, None)
        assert isinstance(await b.venue.resend(intent, restarted), Unknown)
        while not isinstance(outcome := await b.venue.find(intent, restarted), Rejected):
            assert isinstance(outcome, Unknown)
            assert b.chain.height("finalized") <= signed.key["lvbh_max"]
            await b.clock.sleep(1)
        assert b.chain.height("finalized") > signed.key["lvbh_max"]
        assert "never landed" in outcome.reason
        b.chain.control("drop_next", {"n": 0})
        assert isinstance(await b.venue.resend(intent, signed), Rejected)
        assert b.live_positions() == 0


async def test_a_submit_that_claims_success_without_sending_is_not_believed() -> None:
    async with bench() as b:
        b.fault("asgard", "submit_lost", SUBMIT, args={"status": 200})
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed), opened
        books_agree(opened.value, b.truth(opened.value))
        assert b.live_positions() == 1


async def test_a_position_without_a_row_is_seen_and_closed() -> None:
    async with bench() as b:
        b.fault("asgard", "drop_request", SUBMIT)
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed)
        assert await b.venue.position(opened.value.ref) is None
        assert await b.venue.legs() == []
        [view] = await b.venue.legs([(1, opened.value.ref)])
        assert view.qty >= opened.value.done_qty
        common = {"asset": "SOL", "protocol": 1, "position_pda": opened.value.ref}
        smaller = await b.run(Deleverage(**common, target_leverage=D(2)))
        assert isinstance(smaller, Confirmed), smaller
        change, truth = smaller.value.lending, b.truth(smaller.value)
        assert change is not None and change.swap_usdc_qty == truth["swap_usdc_out"]
        # Without a row, what was before is the reading at build time: a few seconds of interest short.
        assert 0 <= truth["tokens_after"] - change.tokens_after < D("0.0000001")
        assert 0 <= truth["debt_after_usd"] - change.debt_after_usd < D("0.0001")
        closed = await b.run(CloseLong(**common))
        assert isinstance(closed, Confirmed), closed
        assert b.live_positions() == 0


async def test_without_a_hint_the_position_is_found_among_the_accounts() -> None:
    async with bench() as b:
        b.fault("asgard", "drop_request", SUBMIT)
        intent = b.intent(await b.open_order())
        signed = await b.venue.sign(intent, await b.venue.build(intent))
        blind = Signed(signed.key | {"position_pda": None}, signed.wire)
        outcome = await b.venue.send(intent, blind)
        assert isinstance(outcome, Confirmed), outcome
        assert outcome.value.ref == signed.key["position_pda"]


async def test_landed_and_failed_is_rejected_and_costs_only_its_fee() -> None:
    async with bench() as b:
        b.fault("asgard", "slippage_fail", SUBMIT)
        before = await b.venue.wallet_balances()
        outcome = await b.run(await b.open_order())
        assert isinstance(outcome, Rejected) and "failed" in outcome.reason
        await b.clock.sleep(20)
        after = await b.venue.wallet_balances()
        assert after.usdc == before.usdc and after.sol_lamports < before.sol_lamports
        assert b.live_positions() == 0


async def test_two_transactions_with_a_co_signer() -> None:
    async with bench() as b:
        b.twin.control("tx_count", {"n": 2})
        b.twin.control("cosigner", {"on": True})
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed), opened
        assert len(opened.value.detail["signatures"]) == 2
        books_agree(opened.value, b.truth(opened.value))


async def test_set_up_landed_and_the_rest_died_is_a_rejection_and_a_new_attempt_works() -> None:
    async with bench(wait_s=3) as b:
        b.twin.control("tx_count", {"n": 2})
        b.fault("asgard", "drop_request", SUBMIT)
        b.fault("solana", "drop_transaction", "rpc:sendTransaction", after=1, times=-1)
        order = await b.open_order()
        intent = b.intent(order)
        signed = await b.venue.sign(intent, await b.venue.build(intent))
        assert isinstance(await b.venue.send(intent, signed), Unknown)
        await b.clock.sleep(70)
        found = await b.venue.find(intent, Signed(signed.key, None))
        assert isinstance(found, Rejected) and "only account set-up landed" in found.reason
        b.faults.clear()
        assert isinstance(await b.run(order), Confirmed)
        assert b.live_positions() == 1


async def test_an_old_build_is_discarded_before_signing() -> None:
    async with bench() as b:
        intent = b.intent(await b.open_order())
        built = await b.venue.build(intent)
        await b.clock.sleep(10.1)
        with pytest.raises(Retryable, match="build again"):
            await b.venue.sign(intent, built)


async def test_builds_that_ask_too_much_are_refused_before_signing() -> None:
    async with bench(fee_cap=1_000) as b:
        with pytest.raises(UnsafeBuild, match="cap"):
            await b.run(await b.open_order())
    async with bench() as b:
        b.fault("asgard", "empty_txs", "POST /create-position")
        with pytest.raises(VenueRefused, match="no list of transactions"):
            await b.run(await b.open_order())
        assert b.live_positions() == 0


async def test_preflight_says_why_not() -> None:
    async with bench() as b:
        order = await b.open_order()
        assert await b.venue.can_build(order) is None
        assert "lacks" in str(await b.venue.can_build(order.model_copy(update={"collateral_usdc": D(10**6)})))
        b.twin.control("set_capacity", {"protocol": 1, "symbol": "USDC", "amount": "1", "kind": "borrow"})
        assert "InsufficientCapacity" in str(await b.venue.can_build(order))
        b.twin.control("submit_mode", {"errors": "string"})
        assert "capacity" in str(await b.venue.can_build(order))
        assert b.live_positions() == 0


async def test_a_dead_protocol_and_a_missing_position_are_refused() -> None:
    async with bench() as b:
        order: AsgardOrder = (await b.open_order()).model_copy(update={"protocol": 3})
        with pytest.raises(VenueRefused, match="Drift"):
            await b.run(order)
        with pytest.raises(VenueRefused, match="not on chain"):
            await b.run(CloseLong(asset="SOL", protocol=1, position_pda=str(b.wallet)))


async def test_markets_prices_and_redemption() -> None:
    async with bench() as b:
        strategies = await b.venue.markets()
        assert len(strategies) == 4
        prices = await b.venue.token_prices()
        assert prices["SOL"] == 200 and set(prices) == {"SOL", "jitoSOL", "jupSOL", "INF", "USDC"}
        assert await b.venue.redemption_rate("SOL") == 1
        assert await b.venue.redemption_rate("jitoSOL") is None  # the pool's account is not there
        b.put_stake_pool("jitoSOL", total=1_220_000_000, supply=1_000_000_000)
        assert await b.venue.redemption_rate("jitoSOL") == D("1.22")
        b.put_infinity(total=1_350_000_000, supply=1_000_000_000)
        assert await b.venue.redemption_rate("INF") == D("1.35")
        await b.venue.check_mints()


async def test_the_keyless_rate_is_kept_and_an_intent_is_what_was_stored() -> None:
    async with bench(api_key=None) as b:
        times: list[int] = []

        async def note(request: httpx.Request) -> None:
            """When it leaves: time may step while it is on its way."""
            times.append(b.clock.now_ms())

        b.venue.client._http.event_hooks["request"].append(note)
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed), opened
        await b.venue.legs()
        assert len(times) > 3 and all(late - early >= 990 for early, late in pairwise(times)), times
        assert b.intent(await b.open_order()).kind == IntentKind.OPEN
