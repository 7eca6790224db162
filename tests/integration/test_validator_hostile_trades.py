"""Hostile builds over lenders, router, fees and life time: each works, and each is refused by its rule."""

from __future__ import annotations

import base64
import json
import struct

import httpx
import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import Confirmed, IntentSpec, VenueName
from tests.attacks.crafted import meta, own, pay, refused, theirs, token_ix, u32, with_account
from tests.attacks.programs import Permissive, obligation
from tests.attacks.scene import SOL, START_USDC, scene
from twins.asgard import instructions as ix
from twins.asgard.lenders import LENDERS
from twins.asgard.venue import (
    JUPITER,
    KAMINO,
    SYSTEM_PROGRAM,
    TIP_ACCOUNTS,
    USDC,
    WSOL_MINT,
)
from twins.asgard.venue import SOL as WSOL
from venues.asgard.orders import AsgardOrder
from venues.solana.rules.approval import Refused
from venues.solana.transactions import UnsafeBuild

TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")


async def test_the_deposit_is_credited_to_the_attacker() -> None:
    async with scene() as s:
        world = Permissive(s.chain)
        world.install()
        lender = LENDERS[KAMINO.id]
        pda = lender.pda(s.attacker.pubkey(), WSOL, 7)
        s.chain.set_account(pda, obligation(s.attacker.pubkey()))
        world.owners[pda] = s.attacker.pubkey()
        s.chain.set_token_balance(s.wallet, WSOL_MINT, 10 * SOL)
        deposit = lender.deposit(ix.Party(s.wallet, pda, 7), WSOL, 10 * SOL)
        hostile = s.compile([deposit])
        verdict = await refused(s, hostile, "authority")
        assert str(s.attacker.pubkey()) in verdict.reason
        s.land(hostile)
        take = lender.withdraw(ix.Party(s.attacker.pubkey(), pda, 7), WSOL, 10 * SOL)
        by_attacker = s.compile([take], payer=s.attacker.pubkey(), signers=[s.attacker])
        s.send(VersionedTransaction.from_bytes(base64.b64decode(by_attacker)))
        assert s.chain.token_balance(s.attacker.pubkey(), WSOL_MINT) == 10 * SOL


@pytest.mark.parametrize("slot", [3, 4])
async def test_the_output_of_the_swap_goes_to_the_attacker(slot: int) -> None:
    async with scene() as s:
        Permissive(s.chain).install()
        honest = ix.route(JUPITER, s.wallet, USDC, WSOL, 6_000 * 10**6, 29 * SOL, 50, 0)
        hostile = s.compile(
            [ix.create_ata(s.wallet, WSOL_MINT), with_account(honest, slot, theirs(s, WSOL_MINT))]
        )
        await refused(s, hostile, "token-owner")
        s.land(hostile)
        assert s.usdc() == START_USDC - 6_000 * 10**6
        assert s.chain.token_balance(s.attacker.pubkey(), WSOL_MINT) > 28 * SOL


async def test_an_address_derived_from_us_that_is_no_longer_ours() -> None:
    """The associated address proves nothing once its owner was changed: the chain is asked."""
    async with scene() as s:
        s.land(s.compile([ix.create_ata(s.wallet, WSOL_MINT)]))
        data = b"\x06\x02\x01" + bytes(s.attacker.pubkey())
        s.land(s.compile([token_ix(data, meta(own(s)), meta(s.wallet, True, False))]))
        await s.clock.sleep(20)
        [build] = await s.build(await s.open_order())
        await refused(s, build, "token-owner")


@pytest.mark.parametrize(
    ("quoted", "slippage", "fee", "rule"),
    [
        (29 * SOL, 10_000, 0, "slippage"),
        (29 * SOL, 51, 0, "slippage"),
        (SOL // 10, 50, 0, "price"),  # a route through a worthless pool
        (28 * SOL, 50, 0, "price"),
        (30 * SOL, 50, 51, "router-fee"),
    ],
)
async def test_a_swap_that_gives_the_money_away(quoted: int, slippage: int, fee: int, rule: str) -> None:
    async with scene() as s:
        Permissive(s.chain).install()
        s.chain.set_token_balance(s.wallet, WSOL_MINT, 0)
        route = ix.route(JUPITER, s.wallet, USDC, WSOL, 2_000 * 10**6, quoted // 3, slippage, fee)
        hostile = s.compile([route])
        await refused(s, hostile, rule)
        s.land(hostile)
        got = s.chain.token_balance(s.wallet, WSOL_MINT)
        assert got == quoted // 3 * (10_000 - slippage) // 10_000 * (10_000 - fee) // 10_000 or fee
        assert got * 200 < 1_995 * SOL  # worth less than was paid


async def test_a_forged_quote_behind_the_arguments() -> None:
    """Anchor ignores what follows: a reader of the tail would see a fair quote."""
    async with scene() as s:
        route = ix.route(JUPITER, s.wallet, USDC, WSOL, 2_000 * 10**6, 1, 50, 0)
        fair = struct.pack("<QQHB", 2_000 * 10**6, 10 * SOL, 50, 0)
        forged = Instruction(JUPITER, bytes(route.data) + fair, route.accounts)
        await refused(s, s.compile([forged]), "router")


async def test_a_huge_priority_fee_and_a_huge_tip() -> None:
    async with scene() as s:
        fee = s.compile(
            [
                set_compute_unit_limit(1_400_000),
                set_compute_unit_price(2_000_000_000),
                pay(s, 1, TIP_ACCOUNTS[0]),
            ]
        )
        await refused(s, fee, "fee-cap")
        before = s.lamports()
        s.land(fee)
        assert before - s.lamports() > 2 * SOL
        tip = s.compile([pay(s, SOL, TIP_ACCOUNTS[0])])
        await refused(s, tip, "tip-cap")
        s.land(tip)
        assert s.lamports() < 2 * SOL


async def test_caps_are_sums_over_the_whole_build() -> None:
    async with scene() as s:
        tips = [s.compile([pay(s, 600_000 + number, TIP_ACCOUNTS[number])]) for number in range(2)]
        await refused(s, tips, "tip-cap")
        price = 6_000_000
        fees = [
            s.compile(
                [
                    set_compute_unit_limit(1_000_000),
                    set_compute_unit_price(price),
                    pay(s, number + 1, TIP_ACCOUNTS[0]),
                ]
            )
            for number in range(2)
        ]
        await refused(s, fees, "fee-cap")
        for one in (*tips, *fees):
            assert s.land(one).err is None


async def test_the_second_transaction_is_the_malicious_one() -> None:
    async with scene() as s:
        order = await s.open_order()
        [honest] = await s.build(order)
        assert not isinstance(await s.judge([honest], await s.expect(order)), Refused)
        hostile = s.compile([pay(s, 3 * SOL)])
        await refused(s, [honest, hostile], "transfer-destination")
        await refused(s, [honest, honest], "duplicate")
        for one in (honest, hostile):
            s.land(one)
        assert s.lamports(s.attacker.pubkey()) == 4 * SOL


async def test_a_durable_nonce_is_held_and_used_when_it_suits() -> None:
    async with scene() as s:
        nonce = Keypair()
        rent = s.chain.svm.minimum_balance_for_rent_exemption(80)
        data = u32(0) + struct.pack("<QQ", rent, 80) + bytes(SYSTEM_PROGRAM)
        make = Instruction(
            SYSTEM_PROGRAM, data, [meta(s.attacker.pubkey(), True), meta(nonce.pubkey(), True)]
        )
        recent = Pubkey.from_string("SysvarRecentB1ockHashes11111111111111111111")
        rents = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
        start = Instruction(
            SYSTEM_PROGRAM,
            u32(6) + bytes(s.attacker.pubkey()),
            [meta(nonce.pubkey()), meta(recent, writable=False), meta(rents, writable=False)],
        )
        prepared = s.compile([make, start], payer=s.attacker.pubkey(), signers=[s.attacker, nonce])
        s.send(VersionedTransaction.from_bytes(base64.b64decode(prepared)))
        account = s.chain.account(nonce.pubkey())
        assert account is not None
        stored = type(s.chain.latest_blockhash()[0]).from_bytes(bytes(account.data[40:72]))
        advance = Instruction(
            SYSTEM_PROGRAM,
            u32(4),
            [meta(nonce.pubkey()), meta(recent, writable=False), meta(s.attacker.pubkey(), True, False)],
        )
        hostile = s.compile([advance, pay(s, 1_000, TIP_ACCOUNTS[0])], blockhash=stored, signers=[s.attacker])
        await refused(s, hostile, "durable-nonce")
        held = s.sign_blindly(hostile)
        await s.clock.sleep(3_600)  # long after any blockhash has died
        landed = s.send(held)
        assert landed.err is None


async def test_legacy_and_version_one() -> None:
    async with scene() as s:
        blockhash = s.chain.latest_blockhash("confirmed")[0]
        legacy = VersionedTransaction.populate(
            Message.new_with_blockhash([pay(s, 3 * SOL)], s.wallet, blockhash), [Signature.default()]
        )
        encoded = base64.b64encode(bytes(legacy)).decode()
        await refused(s, encoded, "version")
        signed = VersionedTransaction(
            Message.new_with_blockhash([pay(s, 3 * SOL)], s.wallet, blockhash), [s.key]
        )
        s.send(signed)
        assert s.lamports(s.attacker.pubkey()) == 4 * SOL
        raw = bytearray(base64.b64decode(s.compile([pay(s, 1, TIP_ACCOUNTS[0])])))
        raw[65] = 0x81  # the version byte behind one signature
        verdict = await s.judge([base64.b64encode(bytes(raw)).decode()])
        assert isinstance(verdict, Refused) and verdict.rule in ("version", "decode")


async def test_token_2022_wholesale() -> None:
    async with scene() as s:
        data = b"\x03" + struct.pack("<Q", 5)
        hostile = s.compile(
            [Instruction(TOKEN_2022, data, [meta(own(s)), meta(theirs(s)), meta(s.wallet, True, False)])]
        )
        await refused(s, hostile, "token-2022")


async def test_another_position_another_bank_another_token() -> None:
    async with scene() as s:
        mine, other = await s.open(), await s.open()
        close = s.close_order(mine)
        expected = await s.expect(close)
        [wrong] = await s.build(s.close_order(other))
        verdict = await s.judge([wrong], expected)
        assert isinstance(verdict, Refused) and verdict.rule == "position" and other in verdict.reason
        s.land(wrong)  # it does close the wrong one
        assert not next(one for one in s.twin.control("ledger", {})["positions"] if one["pda"] == other)[
            "live"
        ]
        [right] = await s.build(close)
        assert not isinstance(await s.judge([right], expected), Refused)
        # What was asked for is an opening in SOL at Kamino; each of these opens something else.
        for protocol, asset, rule in ((1, "INF", "mint"), (0, "SOL", "lender"), (2, "SOL", "lender")):
            [build] = await s.build(await s.open_order(protocol, asset))
            await refused(s, build, rule)
            s.land(build)
        [closing] = await s.build(close)
        verdict = await refused(s, closing, "position")
        assert mine in verdict.reason  # an opening may not fall upon a position that holds something


async def test_more_is_borrowed_or_spent_than_asked() -> None:
    async with scene() as s:
        [deep] = await s.build(await s.open_order(leverage="3.5"))
        await refused(s, deep, "borrow")
        [large] = await s.build(await s.open_order(collateral_usdc="9000", leverage="1.2"))
        await refused(s, large, "spend")
        for one in (deep, large):
            s.land(one)
        assert s.usdc() <= START_USDC - 11_000 * 10**6


class HostileServer(httpx.AsyncBaseTransport):
    """Answers as the true service does, but for the transactions of a build."""

    def __init__(self, honest: httpx.AsyncBaseTransport, hostile: list[str]) -> None:
        self._honest, self.hostile = honest, hostile

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._honest.handle_async_request(request)
        body = json.loads(await answer.aread())
        if isinstance(body, dict) and "signedTxs" in body:
            body["signedTxs"] = [*body["signedTxs"], *self.hostile]
        return httpx.Response(answer.status_code, json=body)


def intent(order: AsgardOrder) -> IntentSpec:
    return IntentSpec(
        intent_id="intent",
        business=CARRY,
        subject="position",
        venue=VenueName.ASGARD,
        part=LegSide.LONG,
        kind=IntentKind.OPEN,
        step=1,
        order=order.model_dump(mode="json"),
    )


async def test_a_hostile_server_gets_no_signature_from_the_venue() -> None:
    async with scene() as s:
        server = HostileServer(s.venue.client._http._transport, [s.compile([pay(s, 3 * SOL)])])
        s.venue.client._http._transport = server
        before = len(s.chain.control("ledger", {})["transactions"])
        with pytest.raises(UnsafeBuild, match="rule transfer-destination") as refusal:
            await s.venue.build(intent(await s.open_order()))
        assert refusal.value.rule == "transfer-destination"
        server.hostile = []
        assert await s.venue.build(intent(await s.open_order()))
        assert len(s.chain.control("ledger", {})["transactions"]) == before
        assert s.lamports(s.attacker.pubkey()) == SOL


async def test_what_is_signed_is_what_was_judged_whatever_the_blob_says_later() -> None:
    async with scene() as s:
        wanted = intent(await s.open_order())
        built = await s.venue.build(wanted)
        judged = [one.message for one in built.payload.verdict.approved]
        built.payload.blob._body["signedTxs"] = [s.compile([pay(s, 3 * SOL)])]  # the payload is swapped
        signed = await s.venue.sign(wanted, built)
        messages = [
            to_bytes_versioned(VersionedTransaction.from_bytes(raw).message) for raw in signed.wire.raws
        ]
        assert messages == judged
        outcome = await s.venue.send(wanted, signed)
        assert isinstance(outcome, Confirmed) and s.lamports(s.attacker.pubkey()) == SOL
