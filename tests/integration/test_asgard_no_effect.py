"""A build that lands and does nothing is dead by proof, and one that would not do what it is for is never signed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

import twins.asgard.emulation as emulation
from evenkeel.types import Confirmed, Receipt, Rejected, Signed, Unknown
from tests.attacks.scene import Scene, scene
from tests.integration.asgard_bench import Bench, bench
from twins.asgard import instructions as ix
from twins.asgard.lenders import LENDERS
from twins.asgard.venue import JUPITER, KAMINO, USDC
from twins.asgard.venue import SOL as WSOL
from venues.asgard.orders import CloseLong, Deleverage, PartialClose
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import MEMO
from venues.solana.transactions import UnsafeBuild

SOL = 10**9


def lands_without_effect(b: Bench, call: str = "POST /submit-close-position-tx") -> None:
    """The next build that is submitted lands without error, and its lender does nothing."""
    b.fault("asgard", "no_effect", call)


async def opened(b: Bench) -> str:
    found = await b.run(await b.open_order())
    assert isinstance(found, Confirmed), found
    return found.value.ref


async def signed_close(b: Bench, pda: str) -> tuple[Any, Signed]:
    intent = b.intent(CloseLong(asset="SOL", protocol=1, position_pda=pda))
    return intent, await b.venue.sign(intent, await b.venue.build(intent))


async def test_landed_final_and_unchanged_is_dead_and_a_new_close_may_be_built() -> None:
    async with bench(wait_s=2) as b:
        pda = await opened(b)
        intent, signed = await signed_close(b, pda)
        lands_without_effect(b)
        first = await b.venue.send(intent, signed)
        assert isinstance(first, Unknown) and "not final yet" in first.reason
        # Another process, with the stored key alone.
        found = await b.restarted().find(intent, Signed(signed.key, None))
        assert isinstance(found, Unknown), "a fork may still take it back"
        await b.clock.sleep(30)
        dead = await b.restarted().find(intent, Signed(signed.key, None))
        assert isinstance(dead, Rejected) and "as it stood before" in dead.reason, dead
        closed = await b.run(CloseLong(asset="SOL", protocol=1, position_pda=pda))
        assert isinstance(closed, Confirmed) and b.live_positions() == 0
        await b.clock.sleep(30)
        again = await b.restarted().find(intent, Signed(signed.key, None))
        assert isinstance(again, Rejected) and "moved no token" in again.reason, (
            "what came later does not revive it"
        )


async def test_a_position_that_another_order_changed_meanwhile_does_not_hide_that_this_one_did_nothing() -> (
    None
):
    async with bench(wait_s=2) as b:
        pda = await opened(b)
        intent, signed = await signed_close(b, pda)
        lands_without_effect(b)
        await b.venue.send(intent, signed)
        await b.clock.sleep(30)
        changed = await b.run(PartialClose(asset="SOL", protocol=1, position_pda=pda, close_percentage=40))
        assert isinstance(changed, Confirmed)
        await b.clock.sleep(30)
        dead = await b.venue.find(intent, Signed(signed.key, None))
        assert isinstance(dead, Rejected) and "could not change" in dead.reason
        assert b.live_positions() == 1


@pytest.mark.parametrize("call", ["rpc:getTransaction", "rpc:getAccountInfo"])
async def test_without_the_chains_word_it_stays_unknown(call: str) -> None:
    async with bench(wait_s=2) as b:
        pda = await opened(b)
        intent, signed = await signed_close(b, pda)
        lands_without_effect(b)
        await b.venue.send(intent, signed)
        await b.clock.sleep(30)
        b.fault("solana", "http_500", call, times=-1)
        assert isinstance(await b.venue.find(intent, Signed(signed.key, None)), Unknown)
        b.faults.clear()
        assert isinstance(await b.venue.find(intent, Signed(signed.key, None)), Rejected)


async def test_an_opening_that_did_nothing_is_opened_once() -> None:
    async with bench(wait_s=2) as b:
        intent = b.intent(await b.open_order())
        signed = await b.venue.sign(intent, await b.venue.build(intent))
        lands_without_effect(b, "POST /submit-create-position-tx")
        await b.venue.send(intent, signed)
        await b.clock.sleep(30)
        dead = await b.venue.find(intent, Signed(signed.key, None))
        assert isinstance(dead, Rejected), dead
        await opened(b)
        assert b.live_positions() == 1


# What is not signed


async def close_parts(s: Scene, pda: str) -> list[Instruction]:
    """An honest close by hand: withdraw, sell, repay."""
    lender, party = LENDERS[KAMINO.id], ix.Party(s.wallet, Pubkey.from_string(pda), 0)
    [live] = (await s.venue.client.refresh([(1, pda)])).values()
    held = live.collateral()
    assert held is not None
    amount = int(held.assets.scaleb(9))
    flash = lender.wrap(party, 7_000 * 10**6, [], 0)
    return [
        flash[0],
        lender.repay(party, None),
        lender.withdraw(party, WSOL, None),
        ix.route(JUPITER, s.wallet, WSOL, USDC, amount, amount * 200 * 10**6 // 10**9 * 999 // 1000, 100, 0),
        flash[1],
    ]


@pytest.mark.parametrize("missing", ["nothing", "repay", "withdraw", "swap", "everything"])
async def test_a_close_contains_what_it_is_for(missing: str) -> None:
    async with scene() as s:
        pda = await s.open()
        order = s.close_order(pda)
        parts = await close_parts(s, pda)
        dropped = {"repay": 1, "withdraw": 2, "swap": 3}
        if missing in dropped:
            del parts[dropped[missing]]
        if missing == "everything":
            parts = [Instruction(MEMO, b"closed", [])]
        verdict = await s.judge([s.compile(parts)], await s.expect(order))
        if missing == "nothing":
            assert not isinstance(verdict, Refused), verdict
        else:
            assert isinstance(verdict, Refused) and verdict.rule == "contents", verdict


@pytest.mark.parametrize(
    ("order", "withdraw", "repay", "rule"),
    [
        (PartialClose, 1, 1, None),
        (PartialClose, 5, 1, "withdrawal"),
        (PartialClose, 1, 0, "contents"),
        (PartialClose, 1, "0.5", "contents"),
        (Deleverage, 1, 1, None),
        (Deleverage, "1.5", 1, "withdrawal"),
        (Deleverage, 1, "0.5", "contents"),
    ],
)
async def test_a_smaller_way_out_withdraws_at_most_and_repays_at_least_what_the_order_implies(
    order: type[PartialClose] | type[Deleverage], withdraw: Any, repay: Any, rule: str | None
) -> None:
    """Kamino itself lets as much be withdrawn as its highest loan-to-value allows."""
    async with scene() as s:
        pda = await s.open()
        common: dict[str, Any] = {"asset": "SOL", "protocol": 1, "position_pda": pda, "slippage_bps": 100}
        wanted = (
            PartialClose(close_percentage=20, **common)
            if order is PartialClose
            else Deleverage(target_leverage=D(2), **common)
        )
        lender, real = LENDERS[KAMINO.id], (LENDERS[KAMINO.id].withdraw, LENDERS[KAMINO.id].repay)
        lender.withdraw = lambda party, token, amount: real[0](party, token, int(D(withdraw) * D(amount)))  # type: ignore
        lender.repay = lambda party, amount: real[1](party, max(1, int(D(repay) * D(amount))))  # type: ignore
        try:
            build = await s.build(wanted)
        finally:
            del lender.withdraw, lender.repay
        verdict = await s.judge(build, await s.expect(wanted))
        if rule is None:
            assert not isinstance(verdict, Refused), verdict
        else:
            assert isinstance(verdict, Refused) and verdict.rule == rule, verdict


@pytest.mark.parametrize("protocol", [0, 1, 2])
async def test_a_close_that_would_leave_collateral_is_refused_before_it_is_signed(
    protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench() as b:
        found = await b.run(await b.open_order(protocol=protocol))
        assert isinstance(found, Confirmed)
        real = emulation.settle

        def leaving(book: Any, plan: Any, now_ms: int, worse: D = D(0)) -> Any:
            done = real(book, plan, now_ms, worse)
            kept = (done.settled.tokens * D("0.3")).quantize(D("1e-9"))
            return replace(done, tokens_after=kept, swap=replace(done.swap, paid=done.swap.paid - kept))

        close = CloseLong(asset="SOL", protocol=protocol, position_pda=found.value.ref)
        with monkeypatch.context() as patched, pytest.raises(UnsafeBuild, match="not be empty"):
            patched.setattr(emulation, "settle", leaving)
            await b.run(close)
        assert b.live_positions() == 1
        closed = await b.run(close)
        assert isinstance(closed, Confirmed) and isinstance(closed.value, Receipt) and b.live_positions() == 0
