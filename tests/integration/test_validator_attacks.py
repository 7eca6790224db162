"""Hostile builds over the basic programs work against a client that trusts its builder, and are refused by the validator."""

from __future__ import annotations

import base64
import struct

import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from tests.attacks.crafted import meta, own, pay, refused, theirs, token_ix, u32
from tests.attacks.scene import SOL, START_USDC, scene
from twins.asgard import instructions as ix
from twins.asgard.venue import (
    ATA_PROGRAM,
    JUPITER,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    USDC,
    USDC_MINT,
    WSOL_MINT,
)
from twins.asgard.venue import SOL as WSOL
from twins.solana import tokens
from twins.solana.callers import spending_elf


async def test_lamports_straight_to_the_attacker() -> None:
    async with scene() as s:
        hostile = s.compile([pay(s, 3 * SOL)])
        verdict = await refused(s, hostile, "transfer-destination")
        assert str(s.attacker.pubkey()) in verdict.reason
        s.land(hostile)
        assert s.lamports() < 2 * SOL and s.lamports(s.attacker.pubkey()) == 4 * SOL


@pytest.mark.parametrize("checked", [False, True])
async def test_tokens_straight_to_the_attacker(checked: bool) -> None:
    async with scene() as s:
        amount = struct.pack("<Q", START_USDC)
        if checked:
            accounts = (
                meta(own(s)),
                meta(USDC_MINT, writable=False),
                meta(theirs(s)),
                meta(s.wallet, True, False),
            )
            hostile = s.compile([token_ix(b"\x0c" + amount + b"\x06", *accounts)])
        else:
            hostile = s.compile(
                [token_ix(b"\x03" + amount, meta(own(s)), meta(theirs(s)), meta(s.wallet, True, False))]
            )
        await refused(s, hostile, "transfer-destination")
        s.land(hostile)
        assert s.usdc() == 0 and s.usdc(s.attacker.pubkey()) == START_USDC


async def test_assign_takes_the_wallet_itself() -> None:
    async with scene() as s:
        hostile = s.compile(
            [Instruction(SYSTEM_PROGRAM, u32(1) + bytes(TOKEN_PROGRAM), [meta(s.wallet, True)])]
        )
        await refused(s, hostile, "assign")
        s.land(hostile)
        account = s.chain.account(s.wallet)
        assert account is not None and account.owner == TOKEN_PROGRAM
        with pytest.raises(AssertionError):
            s.land(s.compile([pay(s, 1_000)]))  # the wallet can never pay again


async def test_allocate_makes_the_wallet_useless() -> None:
    async with scene() as s:
        hostile = s.compile(
            [Instruction(SYSTEM_PROGRAM, u32(8) + struct.pack("<Q", 64), [meta(s.wallet, True)])]
        )
        await refused(s, hostile, "allocate")
        s.land(hostile)
        with pytest.raises(AssertionError):
            s.land(s.compile([pay(s, 1_000)]))


async def test_set_authority_moves_no_amount_and_takes_everything() -> None:
    async with scene() as s:
        data = b"\x06\x02\x01" + bytes(s.attacker.pubkey())
        hostile = s.compile([token_ix(data, meta(own(s)), meta(s.wallet, True, False))])
        await refused(s, hostile, "token")
        s.land(hostile)
        account = s.chain.account(own(s))
        assert account is not None
        state = tokens.read_token(account)
        assert (state.owner, state.amount) == (s.attacker.pubkey(), START_USDC)


async def test_a_batch_hides_a_set_authority() -> None:
    async with scene() as s:
        data = b"\xff\x02\x23\x06\x02\x01" + bytes(s.attacker.pubkey())
        hostile = s.compile([token_ix(data, meta(own(s)), meta(s.wallet, True, False))])
        verdict = await refused(s, hostile, "token")
        assert "Batch" in verdict.reason
        s.land(hostile)
        account = s.chain.account(own(s))
        assert account is not None and tokens.read_token(account).owner == s.attacker.pubkey()


async def test_an_approval_is_used_later() -> None:
    async with scene() as s:
        data = b"\x04" + struct.pack("<Q", START_USDC)
        hostile = s.compile(
            [
                token_ix(
                    data, meta(own(s)), meta(s.attacker.pubkey(), writable=False), meta(s.wallet, True, False)
                )
            ]
        )
        await refused(s, hostile, "token")
        s.land(hostile)
        pull = token_ix(
            b"\x03" + struct.pack("<Q", START_USDC),
            meta(own(s)),
            meta(theirs(s)),
            meta(s.attacker.pubkey(), True, False),
        )
        by_attacker = s.compile([pull], payer=s.attacker.pubkey(), signers=[s.attacker])
        s.send(VersionedTransaction.from_bytes(base64.b64decode(by_attacker)))
        assert s.usdc() == 0 and s.usdc(s.attacker.pubkey()) == START_USDC


async def test_closing_our_account_in_somebody_elses_favour() -> None:
    async with scene() as s:
        s.land(
            s.compile(
                [
                    ix.create_ata(s.wallet, WSOL_MINT),
                    pay(s, 2 * SOL, own(s, WSOL_MINT)),
                    ix.sync_native(own(s, WSOL_MINT)),
                ]
            )
        )
        await s.clock.sleep(20)
        close = token_ix(
            b"\x09", meta(own(s, WSOL_MINT)), meta(s.attacker.pubkey()), meta(s.wallet, True, False)
        )
        hostile = s.compile([close])
        await refused(s, hostile, "close-destination")
        s.land(hostile)
        assert s.lamports(s.attacker.pubkey()) > 3 * SOL


async def test_a_token_account_for_somebody_else_at_our_expense() -> None:
    async with scene() as s:
        other = Pubkey.new_unique()
        account = get_associated_token_address(other, USDC_MINT)
        accounts = [
            meta(s.wallet, True),
            meta(account),
            meta(other, writable=False),
            meta(USDC_MINT, writable=False),
        ]
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
        hostile = s.compile(
            [Instruction(SYSTEM_PROGRAM, data, [meta(s.wallet, True), meta(fresh.pubkey(), True)])],
            signers=[fresh],
        )
        await refused(s, hostile, "new-account")
        s.land(hostile)
        assert s.lamports(fresh.pubkey()) == 2 * SOL


async def test_a_new_token_account_that_is_initialized_for_the_attacker() -> None:
    async with scene() as s:
        fresh = Keypair()
        rent = s.chain.svm.minimum_balance_for_rent_exemption(165)
        made, _ = ix.temporary_wsol(s.wallet, fresh.pubkey(), rent)
        for_attacker = token_ix(
            b"\x12" + bytes(s.attacker.pubkey()), meta(fresh.pubkey()), meta(WSOL_MINT, writable=False)
        )
        hostile = s.compile([made[0], for_attacker], signers=[fresh])
        await refused(s, hostile, "token-owner")
        unfinished = s.compile([made[0]], signers=[fresh])
        await refused(s, unfinished, "new-account")
        s.land(hostile)
        account = s.chain.account(fresh.pubkey())
        assert account is not None and tokens.read_token(account).owner == s.attacker.pubkey()


async def test_an_unknown_program_spends_with_our_signature() -> None:
    """A true executable on the SVM: its call of System carries the signature that it was given."""
    async with scene() as s:
        program = Pubkey.new_unique()
        s.chain.svm.add_program(program, spending_elf(1_500_000_000))
        accounts = [meta(s.wallet, True), meta(s.attacker.pubkey()), meta(SYSTEM_PROGRAM, writable=False)]
        hostile = s.compile([Instruction(program, b"harmless", accounts)])
        verdict = await refused(s, hostile, "program")
        assert str(program) in verdict.reason
        landed = s.land(hostile)
        assert s.lamports(s.attacker.pubkey()) == SOL + 1_500_000_000
        assert any(landed.inner_instructions)


async def test_an_unknown_program_within_reach_of_the_router() -> None:
    """The top-level list says nothing about what a route calls: every executable account must be known."""
    async with scene() as s:
        program = Pubkey.new_unique()
        s.chain.svm.add_program(program, spending_elf(1))
        [honest] = await s.build(await s.open_order())
        tx = VersionedTransaction.from_bytes(base64.b64decode(honest))
        route = ix.route(JUPITER, s.wallet, USDC, WSOL, 10**6, 5_000_000, 50, 0)
        reaching = Instruction(
            route.program_id, bytes(route.data), [*route.accounts, meta(program, writable=False)]
        )
        assert tx.message is not None
        await refused(s, s.compile([reaching]), "program")
