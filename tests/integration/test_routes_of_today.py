"""Closes by every instruction of the router and through every kind of exchange, known and not, and what stays refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from evenkeel.errors import Retryable
from evenkeel.types import Confirmed
from tests.attacks.crafted import meta, own, with_account
from tests.attacks.scene import Scene, scene
from tests.integration.asgard_bench import bench
from twins.asgard import instructions as ix
from twins.asgard.exchanges import EXCHANGES, PUBLISHED
from twins.asgard.lenders import LENDERS
from twins.asgard.routing import FORMS
from twins.asgard.venue import (
    ATA_PROGRAM,
    DFLOW,
    JUPITER,
    KAMINO,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    USDC,
    USDC_MINT,
)
from twins.asgard.venue import SOL as WSOL
from twins.solana.callers import spending_elf
from venues.asgard.orders import CloseLong
from venues.solana.anchors import anchor
from venues.solana.routes.table import dated_table
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import TOKEN_2022
from venues.solana.rules.validator import NOT_UNDERSTOOD, Verdict

LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")


def routes(s: Scene, **body: Any) -> None:
    s.twin.control("routes", body)


async def close_by(s: Scene, pda: str) -> Verdict | Refused:
    order = s.close_order(pda)
    return await s.judge(await s.build(order), await s.expect(order))


def program(s: Scene, address: Pubkey | None = None) -> Pubkey:
    """A program on chain that is in no table of ours."""
    found = address or Pubkey.new_unique()
    s.chain.svm.add_program(found, spending_elf(1))
    return found


async def test_every_kind_of_exchange_by_every_form_gets_a_verdict_and_its_close_passes() -> None:
    assert PUBLISHED == 114 and len(dated_table().jupiter) >= PUBLISHED
    async with scene() as s:
        pda = await s.open()
        for name, kind in EXCHANGES.items():
            routes(s, form=FORMS[kind.number % len(FORMS)], exchanges=[name])
            verdict = await close_by(s, pda)
            assert isinstance(verdict, Verdict), (name, verdict)
            assert not verdict.warnings, (name, verdict.warnings)
        for form in FORMS:
            routes(s, form=form, exchanges=["HumidiFi", "WhirlpoolSwapV2", "MeteoraDlmmSwapV2"])
            assert isinstance(await close_by(s, pda), Verdict), form


@pytest.mark.parametrize("form", FORMS)
async def test_what_is_entered_by_every_form_is_closed_by_it(form: str) -> None:
    async with bench() as b:
        b.twin.control("routes", {"form": form, "exchanges": ["SolFiV2", "TesseraV"]})
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed), opened
        closed = await b.run(
            CloseLong(asset="SOL", protocol=1, position_pda=opened.value.ref, slippage_bps=100)
        )
        assert isinstance(closed, Confirmed), closed
        assert b.live_positions() == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arguments", ["", "01", "00" * 9, "c0ffee"])
async def test_a_step_that_nobody_published_is_a_way_out_and_no_way_in(form: str, arguments: str) -> None:
    async with scene() as s:
        pda = await s.open()
        routes(s, form=form, raw={"kind": 220, "arguments": arguments})
        verdict = await close_by(s, pda)
        assert isinstance(verdict, Verdict), verdict
        assert any("exchange kind 220" in one for one in verdict.warnings)
        order = await s.open_order()
        refused = await s.judge(await s.build(order), await s.expect(order))
        assert isinstance(refused, Refused) and refused.rule == "router" and "220" in refused.reason


async def test_a_program_that_nobody_knows_is_a_warning_on_the_way_out_and_a_refusal_on_the_way_in() -> None:
    async with scene() as s:
        unknown = program(s)
        pda = await s.open()
        routes(s, programs=[str(unknown)])
        verdict = await close_by(s, pda)
        assert isinstance(verdict, Verdict), verdict
        assert verdict.unknown_programs == {unknown} and str(unknown) in verdict.warnings[0]
        order = await s.open_order()
        refused = await s.judge(await s.build(order), await s.expect(order))
        assert isinstance(refused, Refused) and refused.rule == "program"


async def test_what_is_not_understood_is_signed_only_where_its_simulation_passes() -> None:
    async with bench() as b:
        opened = await b.run(await b.open_order())
        assert isinstance(opened, Confirmed)
        b.twin.control("routes", {"raw": {"kind": 220, "arguments": "00"}})
        close = CloseLong(asset="SOL", protocol=1, position_pda=opened.value.ref)
        b.fault("solana", "http_500", "rpc:simulateTransaction", times=-1)
        with pytest.raises(Retryable, match="exchange kind 220"):
            await b.venue.build(b.intent(close))
        b.faults.clear()
        built = await b.venue.build(b.intent(close))
        assert built.note["checks"]["simulation"] == "passed"
        assert "exchange kind 220" in built.note["checks"]["warnings"][0]
        assert isinstance(await b.run(close), Confirmed) and b.live_positions() == 0


async def test_an_account_that_is_not_on_chain_and_not_derived_is_refused() -> None:
    """A program may be deployed there a moment later."""
    async with scene() as s:
        pda = await s.open()
        for absent in (
            Pubkey.new_unique(),
            s.attacker.pubkey(),
            Pubkey.find_program_address([b"x"], LOADER)[0],
        ):
            routes(s, programs=[str(absent)])
            if absent == s.attacker.pubkey():
                continue
            verdict = await close_by(s, pda)
            assert isinstance(verdict, Refused) and verdict.rule == "absent", verdict
            assert "evenkeel routes add account" in verdict.reason
        for known in (
            Pubkey.find_program_address([b"authority", b"\x07"], JUPITER)[0],
            get_associated_token_address(s.wallet, USDC_MINT),
        ):
            routes(s, programs=[str(known)])
            assert isinstance(await close_by(s, pda), Verdict)


# Forged routes


async def bent_close(s: Scene, pda: str, data: bytes) -> Verdict | Refused:
    lender, party = LENDERS[KAMINO.id], ix.Party(s.wallet, Pubkey.from_string(pda), 0)
    flash = lender.wrap(party, 7_000 * 10**6, [], 0)
    honest = ix.route(JUPITER, s.wallet, WSOL, USDC, 1, 1, 0, 0)
    steps = [
        flash[0],
        lender.repay(party, None),
        lender.withdraw(party, WSOL, None),
        Instruction(JUPITER, data, honest.accounts),
        flash[1],
    ]
    return await s.judge([s.compile(steps)], await s.expect(s.close_order(pda)))


@pytest.mark.parametrize("hidden", range(1, 41))
async def test_a_fair_quote_behind_the_true_one_deceives_nobody(hidden: int) -> None:
    """A kind that nobody knows may have any arguments; whatever the program takes for the amounts must be within bounds.

    The true arguments, which sell everything for one base unit, stand `hidden` bytes before the place where an honest builder's
    would; figures are chosen so that the fair ones are as close to them as can be.
    """
    async with scene() as s:
        pda = await s.open()
        [live] = (await s.venue.client.refresh([(1, pda)])).values()
        held = live.collateral()
        assert held is not None
        sold = int(held.assets.scaleb(9))
        for unit in (1, 2**8, 2**16, 2**24):
            rounded = sold - sold % unit
            fair = struct.pack("<QQHB", rounded, rounded // 5 // unit * unit, 50, 0)
            true = struct.pack("<QQHB", min(rounded, 2**40 - 1) if hidden == 5 else rounded, 1, 50, 0)
            tail = bytearray(true + bytes(hidden))
            tail[hidden:] = fair  # the honest place
            data = anchor("route") + struct.pack("<IB", 1, 220) + b"\x64\0\1" + bytes(tail)
            verdict = await bent_close(s, pda, data)
            overlapping = bytes(tail[:19])
            amount, quoted, slippage, _ = struct.unpack("<QQHB", overlapping)
            executes = 0 < amount <= 2 * sold and slippage <= 10_000
            steals = executes and quoted * (10_000 - slippage) / 10_000 < amount / 5 * 0.8
            if steals:
                assert isinstance(verdict, Refused) and verdict.rule == "router", (hidden, unit, verdict)
            assert not isinstance(verdict, Refused) or verdict.rule != NOT_UNDERSTOOD


async def test_a_quote_behind_the_arguments_of_a_known_route_is_refused_on_the_way_out_too() -> None:
    async with scene() as s:
        pda = await s.open()
        route = ix.route(JUPITER, s.wallet, WSOL, USDC, 10**9, 1, 50, 0)
        forged = bytes(route.data) + struct.pack("<QQHB", 10**9, 200 * 10**6, 50, 0)
        verdict = await bent_close(s, pda, forged)
        assert isinstance(verdict, Refused) and verdict.rule == "router"


# Fees, Token-2022, DFlow


async def test_the_platform_fee_goes_to_nobody_who_is_not_pinned() -> None:
    async with scene() as s:
        theirs = get_associated_token_address(s.attacker.pubkey(), USDC_MINT)
        route = with_account(ix.route(JUPITER, s.wallet, USDC, WSOL, 10**9, 5 * 10**9, 50, 20), 6, theirs)
        verdict = await s.judge([s.compile([route])])
        assert isinstance(verdict, Refused) and verdict.rule == "router-fee" and str(theirs) in verdict.reason
        assert "evenkeel routes add fee-account" in verdict.reason


async def test_token_2022_may_stand_beside_the_classic_program_in_a_route() -> None:
    async with scene() as s:
        program(s, TOKEN_2022)
        routes(s, programs=[str(TOKEN_2022)])
        order = await s.open_order()
        assert isinstance(await s.judge(await s.build(order), await s.expect(order)), Verdict)
        theirs = Pubkey.new_unique()
        s.chain.set_account(theirs, Account(10**9, bytes(165), TOKEN_2022))
        route = ix.route(JUPITER, s.wallet, USDC, WSOL, 10**9, 5 * 10**9, 50, 0)
        writes = Instruction(JUPITER, bytes(route.data), [*route.accounts, meta(theirs)])
        await s.clock.sleep(20)
        verdict = await s.judge([s.compile([writes])])
        assert isinstance(verdict, Refused) and verdict.rule == "token-2022"


def dflow(
    s: Scene, name: str, sold: int, quoted: int, action: int = 0, destination: Pubkey | None = None
) -> Instruction:
    data = anchor(name) + struct.pack("<IBQBBQHH", 1, action, sold, 0, 1, quoted, 50, 0)
    data += b"\0" if name.startswith("swap2") else b""
    accounts = [AccountMeta(one, False, False) for one in (TOKEN_PROGRAM, ATA_PROGRAM, SYSTEM_PROGRAM)]
    accounts.append(AccountMeta(s.wallet, True, True))
    if name.endswith("destination"):
        accounts += [meta(destination or own(s)), AccountMeta(s.wallet, False, False)]
        accounts.append(AccountMeta(USDC_MINT, False, False))
    return Instruction(DFLOW, data, [*accounts, meta(own(s, WSOL.mint))])


@pytest.mark.parametrize(
    ("name", "share", "action", "foreign", "rule"),
    [
        ("swap2_with_destination", 1.0, 0, False, None),
        ("swap_with_destination", 1.0, 0, False, None),
        ("swap2", 1.0, 0, False, None),
        ("swap_with_destination", 0.5, 0, False, "price"),
        ("swap", 0.5, 0, False, "price"),
        ("swap_with_destination", 1.0, 0, True, "token-owner"),
        ("open_order", 1.0, 0, False, "discriminator"),
    ],
)
async def test_a_close_by_dflow(
    name: str, share: float, action: int, foreign: bool, rule: str | None
) -> None:
    async with scene() as s:
        pda = await s.open()
        [live] = (await s.venue.client.refresh([(1, pda)])).values()
        held = live.collateral()
        assert held is not None
        sold = int(held.assets.scaleb(9))
        lender, party = LENDERS[KAMINO.id], ix.Party(s.wallet, Pubkey.from_string(pda), 0)
        flash = lender.wrap(party, 7_000 * 10**6, [], 0)
        theirs = get_associated_token_address(s.attacker.pubkey(), USDC_MINT) if foreign else None
        swap = dflow(s, name, sold, int(sold / 5 * share), action, theirs)
        build = s.compile(
            [flash[0], lender.repay(party, None), lender.withdraw(party, WSOL, None), swap, flash[1]]
        )
        verdict = await s.judge([build], await s.expect(s.close_order(pda)))
        if rule is None:
            assert isinstance(verdict, Verdict), verdict
            assert bool(verdict.warnings) == (not name.endswith("destination"))
        else:
            assert isinstance(verdict, Refused) and verdict.rule == rule, verdict
