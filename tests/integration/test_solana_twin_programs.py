"""Emulated programs on the Solana twin: a real executable, effects all with the transaction or not at all."""

from __future__ import annotations

import pytest
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from spl.token.instructions import create_idempotent_associated_token_account

from tests.chains import SOL, USDC, Bench, bench
from twins.faults import Fault
from twins.solana import tokens
from twins.solana.errors import RpcError
from twins.solana.ledger import LandedTransaction
from twins.solana.programs import EmulatedCall, EmulatedEffect, ProgramError, failing_elf, noop_elf

VAULT = Pubkey.new_unique()
RECORD = Pubkey.new_unique()


@pytest.fixture
def at() -> Bench:
    return bench()


class Lender:
    """Takes USDC for a vault and writes a record; `data` is the amount, 0 is refused with 6001."""

    def __init__(self, at: Bench) -> None:
        self.id = Pubkey.new_unique()
        self.calls: list[EmulatedCall] = []
        self.committed: list[LandedTransaction] = []
        at.chain.emulate(self.id, self.handle)

    def handle(self, call: EmulatedCall) -> EmulatedEffect:
        self.calls.append(call)
        amount = int.from_bytes(call.data, "little")
        if amount == 0:
            raise ProgramError(6001, "nothing to deposit")
        return EmulatedEffect(
            token_deltas=[(call.fee_payer, USDC, -amount), (VAULT, USDC, amount)],
            accounts={RECORD: Account(2_000_000, call.data, self.id)},
            on_commit=self.committed.append,
            logs=[f"deposited {amount}"],
        )


@pytest.fixture
def lender(at: Bench) -> Lender:
    return Lender(at)


def usdc_of(at: Bench) -> Pubkey:
    return at.chain.ata(at.wallet.pubkey(), USDC)


def deposit(at: Bench, lender: Lender, amount: int) -> bytes:
    step = at.call(lender.id, amount.to_bytes(8, "little"), usdc_of(at), RECORD)
    return bytes(at.signed(step))


def test_the_noop_program_really_runs_in_the_svm(at: Bench) -> None:
    program_id = Pubkey.new_unique()
    at.chain.add_noop_program(program_id)
    account = at.chain.svm.get_account(program_id)
    assert account is not None and account.executable
    landed = at.chain.transaction(at.chain.submit(bytes(at.signed(at.call(program_id, bytes(range(200)))))))
    assert landed is not None and landed.err is None
    assert landed.logs[0] == f"Program {program_id} invoke [1]"
    assert landed.logs[-1] == f"Program {program_id} success"
    assert landed.units_consumed > 0
    assert noop_elf()[:4] == failing_elf(1)[:4] == b"\x7fELF"


def test_effects_come_with_the_transaction_and_its_record_shows_them(at: Bench, lender: Lender) -> None:
    raw = deposit(at, lender, 400_000_000)
    seen = at.chain.simulate(raw, accounts=[RECORD, usdc_of(at)])
    assert seen.err is None and seen.accounts is not None
    assert seen.accounts[0] is not None and seen.accounts[0].owner == lender.id
    assert seen.accounts[1] is not None and tokens.read_token(seen.accounts[1]).amount == 600_000_000
    assert at.chain.token_balance(at.wallet.pubkey(), USDC) == 1_000_000_000
    assert lender.committed == []

    landed = at.chain.transaction(at.chain.submit(raw))
    assert landed is not None and lender.committed == [landed]
    assert landed.token_change(at.wallet.pubkey(), USDC) == -400_000_000
    assert at.chain.token_balance(VAULT, USDC) == 400_000_000
    assert f"Program log: deposited {400_000_000}" in landed.logs
    record = at.chain.svm.get_account(RECORD)
    assert record is not None and bytes(record.data) == (400_000_000).to_bytes(8, "little")
    at.chain.submit(raw, skip_preflight=True)
    assert len(lender.committed) == 1 and at.chain.token_balance(VAULT, USDC) == 400_000_000


def test_the_handler_sees_what_the_program_would_see(at: Bench, lender: Lender) -> None:
    table_key = at.chain.create_lookup_table([RECORD, usdc_of(at)])
    table = AddressLookupTableAccount(table_key, [RECORD, usdc_of(at)])
    step = at.call(lender.id, (7).to_bytes(8, "little"), usdc_of(at), RECORD)
    tx = at.signed(set_compute_unit_price(5), step, tables=[table])
    assert RECORD not in tx.message.account_keys
    landed = at.chain.transaction(at.chain.submit(bytes(tx)))
    assert landed is not None and RECORD in landed.keys.loaded_writable
    call = lender.calls[-1]
    assert (call.index, len(call.instructions), call.signature) == (1, 2, tx.signatures[0])
    assert [ref.pubkey for ref in call.accounts] == [at.wallet.pubkey(), usdc_of(at), RECORD]
    assert [ref.is_signer for ref in call.accounts] == [True, False, False]
    assert all(ref.is_writable for ref in call.accounts)
    assert 0 <= at.world.now_ms() - call.now_ms < 250


def test_a_refusal_fails_the_whole_transaction_and_takes_the_fee(at: Bench, lender: Lender) -> None:
    receiver = Pubkey.new_unique()
    steps = [
        at.transfer(receiver, SOL),
        at.call(lender.id, (5).to_bytes(8, "little")),
        at.call(lender.id, bytes(8)),
    ]
    raw = bytes(at.signed(*steps))
    with pytest.raises(RpcError) as caught:
        at.chain.submit(raw)
    assert caught.value.code == -32002
    assert caught.value.data["err"] == {"InstructionError": [2, {"Custom": 6001}]}
    assert caught.value.message.endswith("Error processing Instruction 2: custom program error: 0x1771")
    landed = at.chain.transaction(at.chain.submit(raw, skip_preflight=True))
    assert landed is not None
    assert landed.err == {"InstructionError": [2, {"Custom": 6001}]}
    assert list(landed.logs[-3:]) == [
        f"Program {lender.id} invoke [1]",
        "Program log: nothing to deposit",
        f"Program {lender.id} failed: custom program error: 0x1771",
    ]
    assert at.chain.lamports(at.wallet.pubkey()) == 100 * SOL - 5_000 == landed.post_balances[0]
    assert at.chain.lamports(receiver) == 0 and at.chain.token_balance(VAULT, USDC) == 0
    assert lender.committed == [] and at.chain.svm.get_account(RECORD) is None
    again = at.chain.transaction(at.chain.submit(deposit(at, lender, 5)))
    assert again is not None and again.err is None


def test_a_balance_never_becomes_negative(at: Bench, lender: Lender) -> None:
    landed = at.chain.transaction(at.chain.submit(deposit(at, lender, 1_000_000_001), skip_preflight=True))
    assert landed is not None and landed.err == {"InstructionError": [0, {"Custom": 1}]}
    assert at.chain.token_balance(at.wallet.pubkey(), USDC) == 1_000_000_000
    landed = at.chain.transaction(at.chain.submit(deposit(at, lender, 1_000_000_000)))
    assert landed is not None and at.chain.token_balance(at.wallet.pubkey(), USDC) == 0


def test_a_real_instruction_that_fails_undoes_the_effects(at: Bench, lender: Lender) -> None:
    receiver = Pubkey.new_unique()
    steps = [at.call(lender.id, (5).to_bytes(8, "little"), usdc_of(at)), at.transfer(receiver, 1_000 * SOL)]
    landed = at.chain.transaction(at.chain.submit(bytes(at.signed(*steps)), skip_preflight=True))
    assert landed is not None and landed.err == {"InstructionError": [1, {"Custom": 1}]}
    assert at.chain.token_balance(at.wallet.pubkey(), USDC) == 1_000_000_000
    assert lender.committed == []


def test_a_token_account_made_in_the_transaction_receives_the_effect(at: Bench) -> None:
    wallet = at.wallet.pubkey()
    jitosol = Pubkey.from_string("J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn")
    at.chain.ensure_mint(jitosol, 9)
    program_id = Pubkey.new_unique()
    at.chain.emulate(program_id, lambda call: EmulatedEffect([(wallet, jitosol, 7), (wallet, USDC, -100)]))
    target = at.chain.ata(wallet, jitosol)
    metas = [AccountMeta(usdc_of(at), False, True), AccountMeta(usdc_of(at), False, True)]
    metas.append(AccountMeta(wallet, True, False))
    own_transfer = Instruction(tokens.TOKEN_PROGRAM, b"\x03" + (1).to_bytes(8, "little"), metas)
    steps = [
        create_idempotent_associated_token_account(wallet, wallet, jitosol),
        own_transfer,
        at.call(program_id, b"", target, usdc_of(at)),
    ]
    landed = at.chain.transaction(at.chain.submit(bytes(at.signed(*steps))))
    assert landed is not None and landed.err is None
    rent = at.chain.svm.minimum_balance_for_rent_exemption(165)
    assert at.chain.lamports(wallet) == 100 * SOL - 5_000 - rent
    assert landed.token_change(wallet, jitosol) == 7 and landed.token_change(wallet, USDC) == -100
    assert [row.decimals for row in landed.post_token_balances if row.mint == jitosol] == [9]
    assert landed.inner_instructions[0]


def test_lamports_move_with_the_effect(at: Bench) -> None:
    program_id, escrow = Pubkey.new_unique(), Pubkey.new_unique()
    wallet = at.wallet.pubkey()
    at.chain.emulate(program_id, lambda call: EmulatedEffect(lamport_deltas=[(wallet, -SOL), (escrow, SOL)]))
    landed = at.chain.transaction(at.chain.submit(bytes(at.signed(at.call(program_id, b"", escrow)))))
    assert landed is not None
    assert at.chain.lamports(wallet) == 99 * SOL - 5_000 and at.chain.lamports(escrow) == SOL
    assert sum(landed.post_balances) == sum(landed.pre_balances) - 5_000


def test_a_planned_failure_lands_as_a_failed_transaction(at: Bench, lender: Lender) -> None:
    at.faults.add(Fault("solana", "fail_transaction", args={"custom": 6009}))
    landed = at.chain.transaction(at.chain.submit(deposit(at, lender, 5)))
    assert landed is not None and landed.err == {"InstructionError": [0, {"Custom": 6009}]}
    assert at.chain.lamports(at.wallet.pubkey()) == 100 * SOL - 5_000
    assert at.chain.token_balance(VAULT, USDC) == 0
