"""The second line: what a build would leave behind, and what holds when the node cannot say."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from evenkeel.errors import Retryable
from evenkeel.types import Confirmed
from tests.attacks.programs import obligation
from tests.attacks.scene import Scene, scene
from tests.integration.asgard_bench import bench
from twins.asgard.venue import TOKEN_PROGRAM, USDC_MINT
from venues.asgard.approving import Approver
from venues.asgard.orders import CloseLong
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import Expectation, Rules
from venues.solana.rules.simulation import NotSimulated, Simulated, _call, check_after, simulate
from venues.solana.rules.validator import Verdict
from venues.solana.transactions import UnsafeBuild
from venues.solana.view import ChainView, Violation

SIMULATE = "rpc:simulateTransaction"


async def judged(s: Scene) -> tuple[Verdict, Expectation, ChainView]:
    order = await s.open_order()
    build = await s.build(order)
    expectation, view = await s.expect(order), await s.view(build)
    verdict = await s.judge(build, expectation)
    assert isinstance(verdict, Verdict), verdict
    return verdict, expectation, view


async def test_an_honest_opening_passes_with_its_figures() -> None:
    async with scene() as s:
        verdict, expectation, view = await judged(s)
        found = await simulate(s.rpc, verdict, expectation, view, s.rules)
        assert isinstance(found, Simulated)
        [meta] = found.metas
        assert meta is not None and meta["err"] is None
        assert s.usdc() == 20_000 * 10**6  # nothing has happened


Bend = Callable[[dict[str, Any], list[Pubkey], Scene], None]


def _of(value: dict[str, Any], asked: list[Pubkey], key: Pubkey) -> dict[str, Any]:
    found: dict[str, Any] = value["accounts"][asked.index(key)]
    return found


def _data(account: dict[str, Any], at: int, new: bytes) -> None:
    raw = bytearray(base64.b64decode(account["data"][0]))
    raw[at : at + len(new)] = new
    account["data"][0] = base64.b64encode(bytes(raw)).decode()


def wallet_assigned(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _of(value, asked, s.wallet)["owner"] = str(TOKEN_PROGRAM)


def wallet_with_data(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _of(value, asked, s.wallet)["data"][0] = base64.b64encode(bytes(8)).decode()


def wallet_robbed(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _of(value, asked, s.wallet)["lamports"] -= 100_000_000


def usdc(s: Scene) -> Pubkey:
    return get_associated_token_address(s.wallet, USDC_MINT)


def account_given_away(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _data(_of(value, asked, usdc(s)), 32, bytes(s.attacker.pubkey()))


def account_delegated(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _data(_of(value, asked, usdc(s)), 72, b"\x01\0\0\0" + bytes(s.attacker.pubkey()))


def account_closable(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _data(_of(value, asked, usdc(s)), 129, b"\x01\0\0\0" + bytes(s.attacker.pubkey()))


def account_frozen(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _data(_of(value, asked, usdc(s)), 108, b"\x02")


def more_usdc_spent(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    _data(_of(value, asked, usdc(s)), 64, (17_999 * 10**6).to_bytes(8, "little"))


def position_of_the_attacker(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    theirs = obligation(s.attacker.pubkey())
    for place, shown in enumerate(value["accounts"]):
        if shown and shown["owner"] == str(theirs.owner):
            value["accounts"][place] = copy.deepcopy(shown)
            _data(value["accounts"][place], 64, bytes(s.attacker.pubkey()))


def tables_resolved_otherwise(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    value["loadedAddresses"]["writable"].append(str(s.attacker.pubkey()))


def an_unknown_program_called(value: dict[str, Any], asked: list[Pubkey], s: Scene) -> None:
    value["innerInstructions"] = [
        {"index": 3, "instructions": [{"programId": str(s.attacker.pubkey()), "accounts": [], "data": ""}]}
    ]


@pytest.mark.parametrize(
    ("bend", "rule"),
    [
        (wallet_assigned, "simulation"),
        (wallet_with_data, "simulation"),
        (wallet_robbed, "simulation"),
        (account_given_away, "simulation"),
        (account_delegated, "simulation"),
        (account_closable, "simulation"),
        (account_frozen, "simulation"),
        (more_usdc_spent, "simulation"),
        (position_of_the_attacker, "authority"),
        (tables_resolved_otherwise, "lookup-table"),
        (an_unknown_program_called, "program"),
    ],
)
async def test_each_rule_about_what_would_be_left_behind(bend: Bend, rule: str) -> None:
    """The node's true answer, with one thing in it as it would be after an attack."""
    async with scene() as s:
        verdict, expectation, view = await judged(s)
        keys = verdict.keys[0]
        asked = [key for key in keys.every if key in keys.writable]
        value = await _call(s.rpc, verdict.approved[0].unsigned, asked)
        check_after(value, asked, keys, verdict, expectation, view, s.rules)
        bent = copy.deepcopy(value)
        bend(bent, asked, s)
        with pytest.raises(Violation) as broken:
            check_after(bent, asked, keys, verdict, expectation, view, s.rules)
        assert broken.value.rule == rule


async def test_a_simulated_price_far_from_the_independent_one() -> None:
    async with scene() as s:
        verdict, expectation, view = await judged(s)
        found = await simulate(s.rpc, verdict, expectation, view, s.rules)
        assert isinstance(found, Simulated)

        async def price() -> Decimal:
            return Decimal(200)

        async def rate(asset: str) -> Decimal | None:
            return Decimal(1)

        approver = Approver(s.rpc, s.wallet, s.clock, Rules(), price, rate)
        order = await s.open_order()
        approver._check_prices(order, expectation, found)
        with pytest.raises(UnsafeBuild, match="rule price"):
            approver._check_prices(order, replace(expectation, price_usd=Decimal(190)), found)


@pytest.mark.parametrize("kind", ["http_500", "garbage", "drop_answer", "http_429"])
async def test_nothing_is_opened_unseen_and_an_exit_needs_no_simulation(kind: str) -> None:
    async with bench() as b:
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed)
        b.fault("solana", kind, SIMULATE, times=-1)
        with pytest.raises(Retryable, match="nothing is opened unseen"):
            await b.run(await b.open_order())
        assert b.live_positions() == 1
        order = CloseLong(asset="SOL", protocol=1, position_pda=opened.value.ref)
        intent = b.intent(order)
        built = await b.venue.build(intent)
        assert built.note["checks"]["simulation"] != "passed"
        assert isinstance(await b.venue.send(intent, await b.venue.sign(intent, built)), Confirmed)
        assert b.live_positions() == 0


async def test_a_chain_that_cannot_be_read_approves_nothing_not_even_an_exit() -> None:
    async with bench() as b:
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed)
        b.fault("solana", "http_500", "rpc:get(MultipleAccounts|AccountInfo)", times=-1)
        order = CloseLong(asset="SOL", protocol=1, position_pda=opened.value.ref)
        with pytest.raises(Retryable):
            await b.venue.build(b.intent(order))
        b.faults.clear()
        assert isinstance(await b.run(order), Confirmed)


async def test_a_stale_build_is_asked_for_again_rather_than_refused() -> None:
    async with scene() as s:
        verdict, expectation, view = await judged(s)
        await s.clock.sleep(120)
        found = await simulate(s.rpc, verdict, expectation, view, s.rules)
        assert isinstance(found, NotSimulated) and found.transient
        assert not isinstance(found, Refused)


async def test_without_an_independent_price_nothing_is_opened_and_an_exit_goes_on() -> None:
    async with bench() as b:
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed)

        async def silent() -> Decimal:
            raise Retryable("the other venue does not answer")

        b.venue._approver._sol_price = silent
        with pytest.raises(Retryable, match="does not answer"):
            await b.run(await b.open_order())
        order = CloseLong(asset="SOL", protocol=1, position_pda=opened.value.ref)
        remembered = await b.venue.build(b.intent(order))
        assert remembered.note["checks"]["price_usd"] == "200.0"
        await b.clock.sleep(1_000)
        old = await b.venue.build(b.intent(order))
        assert old.note["checks"]["price_usd"] == "200.0" and old.note["checks"]["price_age_s"] >= 1_000
        b.venue._approver._seen.clear()
        never = await b.venue.build(b.intent(order))
        assert never.note["checks"]["price_usd"] is None
        assert isinstance(await b.run(order), Confirmed)
