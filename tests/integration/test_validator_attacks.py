"""Every hostile build of the fact sheet works against a client that trusts its builder, and is refused by the validator."""

from __future__ import annotations

import base64
import struct

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from tests.attacks.programs import Obedient, obligation
from tests.attacks.scene import SOL, START_USDC, Scene, scene
from twins.asgard import instructions as ix
from twins.asgard.lenders import LENDERS
from twins.asgard.venue import (
    ATA_PROGRAM,
    JUPITER,
    KAMINO,
    SYSTEM_PROGRAM,
    TIP_ACCOUNTS,
    TOKEN_PROGRAM,
    USDC,
    USDC_MINT,
    WSOL_MINT,
)
from twins.asgard.venue import SOL as WSOL
from twins.solana import tokens
from twins.solana.callers import spending_elf
from venues.solana.approval import Refused

TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def meta(key: Pubkey, signer: bool = False, writable: bool = True) -> AccountMeta:
    return AccountMeta(key, signer, writable)


def pay(s: Scene, lamports: int, to: Pubkey | None = None) -> Instruction:
    return transfer(
        TransferParams(from_pubkey=s.wallet, to_pubkey=to or s.thief.pubkey(), lamports=lamports)
    )


def token_ix(data: bytes, *accounts: AccountMeta) -> Instruction:
    return Instruction(TOKEN_PROGRAM, data, list(accounts))


def own(s: Scene, mint: Pubkey = USDC_MINT) -> Pubkey:
    return get_associated_token_address(s.wallet, mint)


def theirs(s: Scene, mint: Pubkey = USDC_MINT) -> Pubkey:
    return get_associated_token_address(s.thief.pubkey(), mint)


async def refused(s: Scene, build: str | list[str], rule: str, **order: object) -> Refused:
    verdict = await s.judge([build] if isinstance(build, str) else build, await s.opening(**order))
    assert isinstance(verdict, Refused), "approved"
    assert verdict.rule == rule, verdict
    assert rule in str(verdict) and len(verdict.reason) > 10
    return verdict


async def test_lamports_straight_to_the_thief() -> None:
    async with scene() as s:
        hostile = s.compile([pay(s, 3 * SOL)])
        verdict = await refused(s, hostile, "transfer-destination")
        assert str(s.thief.pubkey()) in verdict.reason
        s.land(hostile)
        assert s.lamports() < 2 * SOL and s.lamports(s.thief.pubkey()) == 4 * SOL


@pytest.mark.parametrize("checked", [False, True])
async def test_tokens_straight_to_the_thief(checked: bool) -> None:
    async with scene() as s:
        amount = struct.pack("<Q", START_USDC)
        if checked:
            accounts = (meta(own(s)), meta(USDC_MINT, writable=False), meta(theirs(s)), meta(s.wallet, True, False))
            hostile = s.compile([token_ix(b"\x0c" + amount + b"\x06", *accounts)])
        else:
            hostile = s.compile([token_ix(b"\x03" + amount, meta(own(s)), meta(theirs(s)), meta(s.wallet, True, False))])
        await refused(s, hostile, "transfer-destination")
        s.land(hostile)
        assert s.usdc() == 0 and s.usdc(s.thief.pubkey()) == START_USDC


async def test_assign_takes_the_wallet_itself() -> None:
    async with scene() as s:
        hostile = s.compile([Instruction(SYSTEM_PROGRAM, u32(1) + bytes(TOKEN_PROGRAM), [meta(s.wallet, True)])])
        await refused(s, hostile, "assign")
        s.land(hostile)
        account = s.chain.account(s.wallet)
        assert account is not None and account.owner == TOKEN_PROGRAM
        with pytest.raises(AssertionError):
            s.land(s.compile([pay(s, 1_000)]))  # the wallet can never pay again


async def test_allocate_makes_the_wallet_useless() -> None:
    async with scene() as s:
        hostile = s.compile([Instruction(SYSTEM_PROGRAM, u32(8) + struct.pack("<Q", 64), [meta(s.wallet, True)])])
        await refused(s, hostile, "allocate")
        s.land(hostile)
        with pytest.raises(AssertionError):
            s.land(s.compile([pay(s, 1_000)]))


async def test_set_authority_moves_no_amount_and_takes_everything() -> None:
    async with scene() as s:
        data = b"\x06\x02\x01" + bytes(s.thief.pubkey())
        hostile = s.compile([token_ix(data, meta(own(s)), meta(s.wallet, True, False))])
        await refused(s, hostile, "token")
        s.land(hostile)
        account = s.chain.account(own(s))
        assert account is not None
        state = tokens.read_token(account)
        assert (state.owner, state.amount) == (s.thief.pubkey(), START_USDC)


async def test_a_batch_hides_a_set_authority() -> None:
    async with scene() as s:
        data = b"\xff\x02\x23\x06\x02\x01" + bytes(s.thief.pubkey())
        hostile = s.compile([token_ix(data, meta(own(s)), meta(s.wallet, True, False))])
        verdict = await refused(s, hostile, "token")
        assert "Batch" in verdict.reason
        s.land(hostile)
        account = s.chain.account(own(s))
        assert account is not None and tokens.read_token(account).owner == s.thief.pubkey()


async def test_an_approval_is_used_later() -> None:
    async with scene() as s:
        data = b"\x04" + struct.pack("<Q", START_USDC)
        hostile = s.compile([token_ix(data, meta(own(s)), meta(s.thief.pubkey(), writable=False), meta(s.wallet, True, False))])
        await refused(s, hostile, "token")
        s.land(hostile)
        pull = token_ix(b"\x03" + struct.pack("<Q", START_USDC), meta(own(s)), meta(theirs(s)), meta(s.thief.pubkey(), True, False))
        by_thief = s.compile([pull], payer=s.thief.pubkey(), signers=[s.thief])
        s.send(VersionedTransaction.from_bytes(base64.b64decode(by_thief)))
        assert s.usdc() == 0 and s.usdc(s.thief.pubkey()) == START_USDC


async def test_closing_our_account_in_somebody_elses_favour() -> None:
    async with scene() as s:
        s.land(s.compile([ix.create_ata(s.wallet, WSOL_MINT), pay(s, 2 * SOL, own(s, WSOL_MINT)), ix.sync_native(own(s, WSOL_MINT))]))
        await s.clock.sleep(20)
        close = token_ix(b"\x09", meta(own(s, WSOL_MINT)), meta(s.thief.pubkey()), meta(s.wallet, True, False))
        hostile = s.compile([close])
        await refused(s, hostile, "close-destination")
        s.land(hostile)
        assert s.lamports(s.thief.pubkey()) > 3 * SOL


async def test_a_token_account_for_somebody_else_at_our_expense() -> None:
    async with scene() as s:
        other = Pubkey.new_unique()
        account = get_associated_token_address(other, USDC_MINT)
        accounts = [meta(s.wallet, True), meta(account), meta(other, writable=False), meta(USDC_MINT, writable=False)]
        accounts += [meta(SYSTEM_PROGRAM, writable=False), meta(TOKEN_PROGRAM, writable=False)]
        hostile = s.compile([Instruction(ATA_PROGRAM, b"\x01", accounts)])
        await refused(s, hostile, "ata")
        before = s.lamports()
        s.land(hostile)
        assert before - s.lamports() > 1_000_000  # the rent


async def test_lamports_in_a_new_account_of_somebody_else() -> None:
    async with scene() as s:
        fresh = Keypair()
        data = u32(0) + struct.pack("<QQ", 2 * SOL, 0) + bytes(SYSTEM_PROGRAM)
        hostile = s.compile([Instruction(SYSTEM_PROGRAM, data, [meta(s.wallet, True), meta(fresh.pubkey(), True)])], signers=[fresh])
        await refused(s, hostile, "new-account")
        s.land(hostile)
        assert s.lamports(fresh.pubkey()) == 2 * SOL


async def test_a_new_token_account_that_is_initialized_for_the_thief() -> None:
    async with scene() as s:
        fresh = Keypair()
        rent = s.chain.svm.minimum_balance_for_rent_exemption(165)
        made, _ = ix.temporary_wsol(s.wallet, fresh.pubkey(), rent)
        for_thief = token_ix(b"\x12" + bytes(s.thief.pubkey()), meta(fresh.pubkey()), meta(WSOL_MINT, writable=False))
        hostile = s.compile([made[0], for_thief], signers=[fresh])
        await refused(s, hostile, "token-owner")
        unfinished = s.compile([made[0]], signers=[fresh])
        await refused(s, unfinished, "new-account")
        s.land(hostile)
        account = s.chain.account(fresh.pubkey())
        assert account is not None and tokens.read_token(account).owner == s.thief.pubkey()


async def test_an_unknown_program_spends_with_our_signature() -> None:
    """A true executable on the SVM: its call of System carries the signature that it was given."""
    async with scene() as s:
        program = Pubkey.new_unique()
        s.chain.svm.add_program(program, spending_elf(1_500_000_000))
        accounts = [meta(s.wallet, True), meta(s.thief.pubkey()), meta(SYSTEM_PROGRAM, writable=False)]
        hostile = s.compile([Instruction(program, b"harmless", accounts)])
        verdict = await refused(s, hostile, "program")
        assert str(program) in verdict.reason
        landed = s.land(hostile)
        assert s.lamports(s.thief.pubkey()) == SOL + 1_500_000_000
        assert any(landed.inner_instructions)


async def test_an_unknown_program_within_reach_of_the_router() -> None:
    """The top-level list says nothing about what a route calls: every executable account must be known."""
    async with scene() as s:
        program = Pubkey.new_unique()
        s.chain.svm.add_program(program, spending_elf(1))
        [honest] = await s.build(await s.open_order())
        tx = VersionedTransaction.from_bytes(base64.b64decode(honest))
        route = ix.route(JUPITER, s.wallet, USDC, WSOL, 10**6, 5_000_000, 50, 0)
        reaching = Instruction(route.program_id, bytes(route.data), [*route.accounts, meta(program, writable=False)])
        assert tx.message is not None
        await refused(s, s.compile([reaching]), "program")


async def test_the_deposit_is_credited_to_the_thief() -> None:
    async with scene() as s:
        world = Obedient(s.chain)
        world.install()
        lender = LENDERS[KAMINO.id]
        pda = lender.pda(s.thief.pubkey(), WSOL, 7)
        s.chain.set_account(pda, obligation(s.thief.pubkey()))
        world.owners[pda] = s.thief.pubkey()
        s.chain.set_token_balance(s.wallet, WSOL_MINT, 10 * SOL)
        deposit = lender.deposit(ix.Party(s.wallet, pda, 7), WSOL, 10 * SOL)
        hostile = s.compile([deposit])
        verdict = await refused(s, hostile, "authority")
        assert str(s.thief.pubkey()) in verdict.reason
        s.land(hostile)
        take = lender.withdraw(ix.Party(s.thief.pubkey(), pda, 7), WSOL, 10 * SOL)
        by_thief = s.compile([take], payer=s.thief.pubkey(), signers=[s.thief])
        s.send(VersionedTransaction.from_bytes(base64.b64decode(by_thief)))
        assert s.chain.token_balance(s.thief.pubkey(), WSOL_MINT) == 10 * SOL


def with_account(instruction: Instruction, slot: int, key: Pubkey) -> Instruction:
    accounts = list(instruction.accounts)
    accounts[slot] = AccountMeta(key, accounts[slot].is_signer, accounts[slot].is_writable)
    return Instruction(instruction.program_id, bytes(instruction.data), accounts)


@pytest.mark.parametrize("slot", [3, 4])
async def test_the_output_of_the_swap_goes_to_the_thief(slot: int) -> None:
    async with scene() as s:
        Obedient(s.chain).install()
        honest = ix.route(JUPITER, s.wallet, USDC, WSOL, 6_000 * 10**6, 29 * SOL, 50, 0)
        hostile = s.compile([ix.create_ata(s.wallet, WSOL_MINT), with_account(honest, slot, theirs(s, WSOL_MINT))])
        await refused(s, hostile, "token-owner")
        s.land(hostile)
        assert s.usdc() == START_USDC - 6_000 * 10**6
        assert s.chain.token_balance(s.thief.pubkey(), WSOL_MINT) > 28 * SOL


async def test_an_address_derived_from_us_that_is_no_longer_ours() -> None:
    """The associated address proves nothing once its owner was changed: the chain is asked."""
    async with scene() as s:
        s.land(s.compile([ix.create_ata(s.wallet, WSOL_MINT)]))
        data = b"\x06\x02\x01" + bytes(s.thief.pubkey())
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
        Obedient(s.chain).install()
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
        fee = s.compile([set_compute_unit_limit(1_400_000), set_compute_unit_price(2_000_000_000), pay(s, 1, TIP_ACCOUNTS[0])])
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
            s.compile([set_compute_unit_limit(1_000_000), set_compute_unit_price(price), pay(s, number + 1, TIP_ACCOUNTS[0])])
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
        assert s.lamports(s.thief.pubkey()) == 4 * SOL


async def test_a_durable_nonce_is_held_and_used_when_it_suits() -> None:
    async with scene() as s:
        nonce = Keypair()
        rent = s.chain.svm.minimum_balance_for_rent_exemption(80)
        data = u32(0) + struct.pack("<QQ", rent, 80) + bytes(SYSTEM_PROGRAM)
        make = Instruction(SYSTEM_PROGRAM, data, [meta(s.thief.pubkey(), True), meta(nonce.pubkey(), True)])
        recent = Pubkey.from_string("SysvarRecentB1ockHashes11111111111111111111")
        rents = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
        start = Instruction(
            SYSTEM_PROGRAM,
            u32(6) + bytes(s.thief.pubkey()),
            [meta(nonce.pubkey()), meta(recent, writable=False), meta(rents, writable=False)],
        )
        prepared = s.compile([make, start], payer=s.thief.pubkey(), signers=[s.thief, nonce])
        s.send(VersionedTransaction.from_bytes(base64.b64decode(prepared)))
        account = s.chain.account(nonce.pubkey())
        assert account is not None
        stored = type(s.chain.latest_blockhash()[0]).from_bytes(bytes(account.data[40:72]))
        advance = Instruction(
            SYSTEM_PROGRAM,
            u32(4),
            [meta(nonce.pubkey()), meta(recent, writable=False), meta(s.thief.pubkey(), True, False)],
        )
        hostile = s.compile([advance, pay(s, 1_000, TIP_ACCOUNTS[0])], blockhash=stored, signers=[s.thief])
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
        signed = VersionedTransaction(Message.new_with_blockhash([pay(s, 3 * SOL)], s.wallet, blockhash), [s.key])
        s.send(signed)
        assert s.lamports(s.thief.pubkey()) == 4 * SOL
        raw = bytearray(base64.b64decode(s.compile([pay(s, 1, TIP_ACCOUNTS[0])])))
        raw[65] = 0x81  # the version byte behind one signature
        verdict = await s.judge([base64.b64encode(bytes(raw)).decode()])
        assert isinstance(verdict, Refused) and verdict.rule in ("version", "decode")


async def test_token_2022_wholesale() -> None:
    async with scene() as s:
        data = b"\x03" + struct.pack("<Q", 5)
        hostile = s.compile([Instruction(TOKEN_2022, data, [meta(own(s)), meta(theirs(s)), meta(s.wallet, True, False)])])
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
        assert not next(one for one in s.twin.control("ledger", {})["positions"] if one["pda"] == other)["live"]
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
