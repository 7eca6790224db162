"""A node that says a slot for a block height: what can still land is not dead, and what cannot is dead all the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from evenkeel.errors import NotUnderstood
from evenkeel.types import Unknown
from tests.chaos.carry.events import HEIGHTS, SLOT
from tests.integration.test_solana_client import Bench, bench
from twins.faults import Fault
from venues.solana.confirm import Confirmer, Dead, Landed


def slots_for_heights(b: Bench, *methods: str) -> None:
    for method in methods:
        args = {"path": HEIGHTS[method], "scale": SLOT}
        b.faults.add(Fault("solana", "field", f"rpc:{method}", times=-1, args=args))


def true_limit(b: Bench, limit: int) -> bool:
    return 150 <= limit - b.chain.height("processed") <= 150 + 40


async def ended(b: Bench, confirmer: Confirmer, signature: str, limit: int, **known: Any) -> Dead:
    """The proof of death, which never comes while the transaction could still land."""
    last, until_ms = b.chain.height("processed") + 148, b.clock.now_ms() + 3_600_000
    while isinstance(result := await confirmer.result_of(signature, limit, **known), Unknown):
        assert b.clock.now_ms() < until_ms, result
        await b.clock.sleep(5)
    assert isinstance(result, Dead) and b.chain.height("finalized") > last, result
    return result


@pytest.mark.parametrize("method", sorted(HEIGHTS))
async def test_a_limit_from_a_slot_is_not_believed(method: str) -> None:
    """As solana-foundation/surfpool#387: one reading of three counts from the slot."""
    async with bench() as b:
        slots_for_heights(b, method)
        tx, _, limit = await b.transfer()
        assert true_limit(b, limit)
        built_at_ms = b.clock.now_ms()
        proof = await ended(
            b, b.confirmer, str(tx.signatures[0]), limit, built_at_ms=built_at_ms, is_exit=True
        )
        assert b.clock.now_ms() - built_at_ms < 120_000, proof
        named = [source for source, odd in b.rpc.oddities.words().items() if odd]
        assert named == ([] if method == "getBlockHeight" else [f"solana {method} at {b.rpc.host}"])


async def test_without_two_readings_that_agree_nothing_is_signed() -> None:
    async with bench() as b:
        slots_for_heights(b, "getBlockHeight")
        b.faults.add(Fault("solana", "http_500", "rpc:getLatestBlockhash", times=3))
        with pytest.raises(NotUnderstood, match="do not agree"):
            await b.confirmer.height_limit()
        assert true_limit(b, await b.confirmer.height_limit())


async def test_one_reading_counts_where_no_other_can_be_had() -> None:
    """A way out must not wait for an endpoint; a limit that is wrong is found out later, by counting."""
    async with bench() as b:
        for method in ("getEpochInfo", "getBlockHeight"):
            b.faults.add(Fault("solana", "http_500", f"rpc:{method}", times=-1))
        assert true_limit(b, await b.confirmer.height_limit())


async def test_an_endpoint_that_hangs_does_not_let_a_build_grow_old() -> None:
    """What is built is signed within ten seconds or not at all."""
    async with bench() as b:
        for method in ("getEpochInfo", "getBlockHeight"):
            b.faults.add(Fault("solana", "one_endpoint", f"rpc:{method}", times=-1, args={"how": "hang"}))
        began = time.monotonic()
        assert true_limit(b, await b.confirmer.height_limit())
        assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    "methods", [("getEpochInfo",), ("getEpochInfo", "getLatestBlockhash"), tuple(HEIGHTS)]
)
@pytest.mark.parametrize("is_exit", [False, True])
@pytest.mark.parametrize("no_status", [False, True])
async def test_what_can_still_land_is_not_dead(
    methods: tuple[str, ...], is_exit: bool, no_status: bool
) -> None:
    """As EdgeApp/edge-currency-accountbased#1107: the finalized height that a node says is its slot."""
    async with bench() as b:
        confirmer = Confirmer(b.rpc, b.clock, str(b.wallet))
        older, _, _ = await b.transfer()
        await confirmer.send(bytes(older))
        await b.clock.sleep(600)
        tx, to, limit = await b.transfer()
        known: dict[str, Any] = {"built_at_ms": b.clock.now_ms(), "is_exit": is_exit}
        signature = str(tx.signatures[0])
        slots_for_heights(b, *methods)
        if no_status:
            b.faults.add(Fault("solana", "http_500", "rpc:getSignatureStatuses", times=-1))
        for _ in range(4):
            found = await confirmer.result_of(signature, limit, **known)
            assert isinstance(found, Unknown), found
            await b.clock.sleep(3)
        await confirmer.send(bytes(tx))
        await b.clock.sleep(5)
        assert isinstance(await confirmer.result_of(signature, limit, **known), Landed)
        assert await b.rpc.get_balance(str(to)) == 1_000_000

        tx, _, _ = await b.transfer()
        limit, known["built_at_ms"] = b.chain.height("processed") + 182, b.clock.now_ms()
        await ended(b, confirmer, str(tx.signatures[0]), limit, **known)
        assert b.clock.now_ms() - known["built_at_ms"] < 300_000


@pytest.mark.parametrize("times", [SLOT, "0.5"])
async def test_a_stored_limit_that_cannot_be_is_replaced_by_counting_blocks(times: str) -> None:
    """It was stored by an older process, or by a node that was wrong in all its readings. Too low is no proof either."""
    async with bench() as b:
        tx, _, limit = await b.transfer()
        built_at_ms = b.clock.now_ms()
        wrong = int(limit * float(times))
        signature = str(tx.signatures[0])
        proof = await ended(b, b.confirmer, signature, wrong, built_at_ms=built_at_ms, is_exit=True)
        assert "finalized after slot" in proof.evidence and b.clock.now_ms() - built_at_ms < 180_000


async def test_a_chain_that_stands_still_proves_nothing_by_the_count() -> None:
    """Blocks count, not hours: what was built before a halt can land after it."""
    async with bench() as b:
        tx, to, limit = await b.transfer()
        built_at_ms, signature = b.clock.now_ms(), str(tx.signatures[0])
        slots_for_heights(b, *HEIGHTS)
        await b.clock.sleep(10)
        b.chain.control("halt", {})
        await b.clock.sleep(3 * 3600)
        for is_exit in (False, True):
            found = await b.confirmer.result_of(signature, limit, built_at_ms=built_at_ms, is_exit=is_exit)
            assert isinstance(found, Unknown), found
        b.chain.control("resume", {})
        await b.clock.sleep(10)
        assert isinstance(
            await b.confirmer.result_of(signature, limit, built_at_ms=built_at_ms, is_exit=True), Unknown
        )
        await b.confirmer.resend(bytes(tx))
        await b.clock.sleep(5)
        assert await b.rpc.get_balance(str(to)) == 1_000_000


@pytest.mark.parametrize("by_s", [-90, -12, 12])
@pytest.mark.parametrize("methods", [(), tuple(HEIGHTS)])
async def test_a_clock_that_steps_delays_no_proof_for_long(by_s: int, methods: tuple[str, ...]) -> None:
    """The build was stamped before the host's clock was set right."""
    async with bench() as b:
        tx, _, limit = await b.transfer()
        slots_for_heights(b, *methods)
        began, built_at_ms = b.clock.now_ms(), b.clock.now_ms() - by_s * 1000
        await ended(b, b.confirmer, str(tx.signatures[0]), limit, built_at_ms=built_at_ms, is_exit=True)
        assert b.clock.now_ms() - began < 300_000


async def test_without_the_time_of_the_build_two_readings_must_agree() -> None:
    async with bench() as b:
        tx, _, limit = await b.transfer()
        signature = str(tx.signatures[0])
        slots_for_heights(b, "getEpochInfo")
        await b.clock.sleep(600)
        found = await b.confirmer.result_of(signature, limit, is_exit=True)
        assert isinstance(found, Unknown) and "do not bear each other out" in found.reason
        b.faults.clear()
        assert isinstance(await b.confirmer.result_of(signature, limit), Dead)
