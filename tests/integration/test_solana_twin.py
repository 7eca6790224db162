"""The Solana twin's chain: blockhash window, one execution at most, fees, commitments, halts, losses."""

from __future__ import annotations

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import (
    AdvanceNonceAccountParams,
    advance_nonce_account,
    create_nonce_account,
)
from solders.transaction import VersionedTransaction

from tests.chains import SOL, USDC, Bench, bench
from twins.faults import Fault
from twins.solana import tokens
from twins.solana.blocks import Blocks
from twins.solana.errors import RpcError
from twins.solana.fees import fee_of


@pytest.fixture
def at() -> Bench:
    return bench()


def refusal(at: Bench, raw: bytes, **options: object) -> RpcError:
    with pytest.raises(RpcError) as caught:
        at.chain.submit(raw, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize(("past_last", "lands"), [(0, True), (1, False)])
def test_accepted_at_last_valid_height_and_refused_one_block_later(
    at: Bench, past_last: int, lands: bool
) -> None:
    blockhash, last_valid = at.chain.latest_blockhash()
    receiver = Pubkey.new_unique()
    tx = at.pay(receiver, SOL, blockhash)
    at.pass_blocks(last_valid - at.chain.height() + past_last)
    assert at.chain.height() == last_valid + past_last
    if lands:
        assert at.chain.submit(bytes(tx)) == tx.signatures[0]
        assert at.chain.lamports(receiver) == SOL
    else:
        error = refusal(at, bytes(tx))
        assert (error.code, error.message) == (-32002, "Transaction simulation failed: Blockhash not found")
        assert error.data["err"] == "BlockhashNotFound"
        at.chain.submit(bytes(tx), skip_preflight=True)
        assert at.chain.transaction(tx.signatures[0]) is None
        assert at.chain.lamports(receiver) == 0


def test_the_same_bytes_execute_once_even_after_a_thousand_others(at: Bench) -> None:
    blockhash, _ = at.chain.latest_blockhash()
    receiver = Pubkey.new_unique()
    raw = bytes(at.pay(receiver, 1_000_000, blockhash))
    first = at.chain.submit(raw)
    for amount in range(1, 1_001):
        at.chain.submit(bytes(at.pay(receiver, 1_000_000 + amount, blockhash)))
    balance = at.chain.lamports(at.wallet.pubkey())
    assert at.chain.submit(raw, skip_preflight=True) == first
    error = refusal(at, raw)
    assert error.message == "Transaction simulation failed: This transaction has already been processed"
    assert at.chain.lamports(at.wallet.pubkey()) == balance
    assert at.chain.lamports(receiver) == sum(1_000_000 + amount for amount in range(1_001))


@pytest.mark.parametrize(
    ("price", "limit", "fee"),
    [
        (10_000, 200_000, 7_000),
        (5_000_000, 200_000, 1_005_000),
        (1, 150_001, 5_001),
        (100_000, 600_000, 65_000),
    ],
)
def test_the_fee_is_exact_and_known_beforehand(at: Bench, price: int, limit: int, fee: int) -> None:
    tx = at.signed(
        set_compute_unit_price(price), set_compute_unit_limit(limit), at.transfer(Pubkey.new_unique(), SOL)
    )
    before = at.chain.lamports(at.wallet.pubkey())
    assert at.chain.simulate(bytes(tx)).fee_lamports == fee
    landed = at.chain.transaction(at.chain.submit(bytes(tx)))
    assert landed is not None
    assert landed.fee_lamports == fee == fee_of(tx.message)
    assert at.chain.lamports(at.wallet.pubkey()) == before - SOL - fee


def test_two_builtins_without_a_limit_cost_the_default_units(at: Bench) -> None:
    tx = at.signed(set_compute_unit_price(10_000), at.transfer(Pubkey.new_unique(), SOL))
    landed = at.chain.transaction(at.chain.submit(bytes(tx)))
    assert landed is not None
    assert landed.fee_lamports == 5_060 == fee_of(tx.message)


def test_each_signature_is_paid_for(at: Bench) -> None:
    second = Keypair()
    step = at.transfer(Pubkey.new_unique(), SOL)
    metas = [*step.accounts, AccountMeta(second.pubkey(), True, False)]
    tx = at.signed(Instruction(step.program_id, bytes(step.data), metas), also=[second])
    landed = at.chain.transaction(at.chain.submit(bytes(tx)))
    assert landed is not None and landed.fee_lamports == 10_000


def test_a_transaction_that_fails_on_chain_pays_its_fee_and_only_that(at: Bench) -> None:
    receiver = Pubkey.new_unique()
    tx = at.pay(receiver, 1_000 * SOL)
    error = refusal(at, bytes(tx))
    assert error.message == (
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    )
    assert at.chain.lamports(at.wallet.pubkey()) == 100 * SOL
    landed = at.chain.transaction(at.chain.submit(bytes(tx), skip_preflight=True))
    assert landed is not None
    assert landed.err == {"InstructionError": [0, {"Custom": 1}]}
    assert at.chain.lamports(at.wallet.pubkey()) == 100 * SOL - 5_000 == landed.post_balances[0]
    assert at.chain.lamports(receiver) == 0


def test_what_a_node_refuses_before_running_it(at: Bench) -> None:
    good = at.pay(Pubkey.new_unique(), SOL)
    unsigned = VersionedTransaction.populate(good.message, [type(good.signatures[0]).default()])
    error = refusal(at, bytes(unsigned))
    assert (error.code, error.message) == (-32003, "Transaction signature verification failure")
    at.chain.submit(bytes(unsigned), skip_preflight=True)
    assert at.chain.lamports(at.wallet.pubkey()) == 100 * SOL
    assert refusal(at, b"\x01junk").code == -32602
    large = at.signed(at.call(Pubkey.new_unique(), bytes(1_200)))
    assert len(bytes(large)) > 1232
    error = refusal(at, bytes(large))
    assert error.code == -32602 and "too large" in error.message
    poor = Keypair()
    empty = VersionedTransaction(
        MessageV0.try_compile(
            poor.pubkey(), [at.call(Pubkey.new_unique())], [], at.chain.latest_blockhash()[0]
        ),
        [poor, at.wallet],
    )
    error = refusal(at, bytes(empty))
    assert "no record of a prior credit" in error.message


def test_commitments_differ_in_height_and_reach_a_landed_transaction_in_turn(at: Bench) -> None:
    chain = at.chain
    assert chain.height() - chain.height("confirmed") == 2
    assert chain.height() - chain.height("finalized") == 32
    assert chain.slot() != chain.height()
    receiver = Pubkey.new_unique()
    chain.submit(bytes(at.pay(receiver, SOL)))

    def seen() -> list[bool]:
        found = (chain.account(receiver, name) for name in ("processed", "confirmed", "finalized"))
        return [account is not None for account in found]

    assert seen() == [True, False, False]
    at.pass_blocks(2)
    assert seen() == [True, True, False]
    at.pass_blocks(30)
    assert seen() == [True, True, True]


def test_preflight_at_finalized_does_not_know_the_newest_blockhash(at: Bench) -> None:
    tx = at.pay(Pubkey.new_unique(), SOL)
    error = refusal(at, bytes(tx), preflight_commitment="finalized")
    assert error.data["err"] == "BlockhashNotFound"
    old = at.pay(Pubkey.new_unique(), SOL, at.chain.latest_blockhash("finalized")[0])
    assert at.chain.submit(bytes(old), preflight_commitment="finalized") == old.signatures[0]


def test_slots_skip_and_every_block_has_one(at: Bench) -> None:
    height = at.chain.height()
    slots = [Blocks.slot_of(made) for made in range(height, height + 100)]
    assert slots == sorted(set(slots)) and slots[-1] - slots[0] > 99
    assert [Blocks.height_of_slot(slot) for slot in slots] == list(range(height, height + 100))
    skipped = set(range(slots[0], slots[-1])) - set(slots)
    assert skipped and all(Blocks.height_of_slot(slot) is None for slot in skipped)


def test_a_jump_of_many_hours_is_counted_and_old_blockhashes_die(at: Bench) -> None:
    tx = at.pay(Pubkey.new_unique(), SOL)
    height = at.chain.height()
    at.pass_seconds(30 * 3600)
    assert at.chain.height() - height == 30 * 3600 * 4
    assert refusal(at, bytes(tx)).data["err"] == "BlockhashNotFound"
    assert at.chain.latest_blockhash("finalized")[1] == at.chain.height("finalized") + 150
    assert at.chain.submit(bytes(at.pay(Pubkey.new_unique(), SOL)))
    assert at.chain.svm.get_clock().unix_timestamp == at.world.now_ms() // 1000


def test_a_halt_stops_heights_and_what_the_node_repeats_lands_after_it(at: Bench) -> None:
    chain = at.chain
    chain.control("halt", {})
    height = chain.height()
    repeated, single = Pubkey.new_unique(), Pubkey.new_unique()
    at.pass_seconds(3600)
    first = chain.submit(bytes(at.pay(repeated, SOL)))
    second = chain.submit(bytes(at.pay(single, SOL)), max_retries=0)
    at.pass_seconds(3600)
    assert chain.height() == height
    assert chain.transaction(first) is None and chain.transaction(second) is None
    chain.control("resume", {})
    assert chain.height() == height
    at.pass_blocks(1)
    assert chain.lamports(repeated) == SOL and chain.lamports(single) == 0
    landed = chain.transaction(first)
    assert landed is not None and landed.height == height + 1


def test_dropped_late_and_expired_transactions(at: Bench) -> None:
    chain = at.chain
    chain.control("drop_next", {"n": 1})
    lost = at.pay(Pubkey.new_unique(), SOL)
    chain.submit(bytes(lost))
    at.pass_blocks(10)
    assert chain.transaction(lost.signatures[0]) is None
    chain.submit(bytes(lost))
    assert chain.transaction(lost.signatures[0]) is not None

    late = at.pay(Pubkey.new_unique(), SOL)
    sent_at = chain.height()
    chain.control("land_late", {"blocks": 40})
    chain.submit(bytes(late))
    at.pass_blocks(39)
    assert chain.transaction(late.signatures[0]) is None
    at.pass_blocks(100)
    landed = chain.transaction(late.signatures[0])
    assert landed is not None and landed.height == sent_at + 40

    too_late = at.pay(Pubkey.new_unique(), SOL)
    at.faults.add(Fault("solana", "land_late", args={"blocks": 151}))
    chain.submit(bytes(too_late))
    at.pass_blocks(400)
    assert chain.transaction(too_late.signatures[0]) is None

    stale = at.pay(Pubkey.new_unique(), SOL)
    chain.control("expire_blockhash", {})
    assert refusal(at, bytes(stale)).data["err"] == "BlockhashNotFound"


def test_a_node_that_lags_shows_the_past_and_says_so(at: Bench) -> None:
    chain = at.chain
    slot = chain.slot()
    chain.control("lag", {"slots": 200})
    assert chain.slot() < slot - 190
    error = refusal(at, bytes(at.pay(Pubkey.new_unique(), SOL)))
    assert error.code == -32005 and error.data["numSlotsBehind"] >= 200
    error = refusal(at, bytes(at.pay(Pubkey.new_unique(), SOL)), min_context_slot=slot)
    assert error.code == -32016 and error.data == {"contextSlot": chain.slot()}


def test_a_failed_nonce_transaction_uses_its_nonce_up(at: Bench) -> None:
    chain, wallet = at.chain, at.wallet.pubkey()
    nonce = Keypair()
    rent = chain.svm.minimum_balance_for_rent_exemption(80)
    chain.submit(bytes(at.signed(*create_nonce_account(wallet, nonce.pubkey(), wallet, rent), also=[nonce])))
    at.pass_blocks(1)

    def stored() -> bytes:
        account = chain.svm.get_account(nonce.pubkey())
        assert account is not None
        return bytes(account.data)[40:72]

    def with_nonce(lamports: int) -> VersionedTransaction:
        params = AdvanceNonceAccountParams(nonce_pubkey=nonce.pubkey(), authorized_pubkey=wallet)
        steps = [advance_nonce_account(params), at.transfer(Pubkey.new_unique(), lamports)]
        return at.signed(*steps, blockhash=type(chain.latest_blockhash()[0])(stored()))

    failing, alternative = with_nonce(1_000 * SOL), with_nonce(SOL)
    at.pass_blocks(500)
    landed = chain.transaction(chain.submit(bytes(failing), skip_preflight=True))
    assert landed is not None and landed.err == {"InstructionError": [1, {"Custom": 1}]}
    assert refusal(at, bytes(alternative)).data["err"] == "BlockhashNotFound"
    at.pass_blocks(1)
    fresh = with_nonce(SOL)
    landed = chain.transaction(chain.submit(bytes(fresh)))
    assert landed is not None and landed.err is None
    assert refusal(at, bytes(fresh)).data["err"] == "BlockhashNotFound"


def test_token_accounts_and_rent(at: Bench) -> None:
    owner = at.wallet.pubkey()
    assert at.chain.token_balance(owner, USDC) == 1_000_000_000
    at.chain.set_token_balance(owner, USDC, 5)
    assert at.chain.token_balance(owner, USDC) == 5
    at.chain.set_token_balance(owner, tokens.NATIVE_MINT, 3 * SOL)
    wrapped = at.chain.svm.get_account(at.chain.ata(owner, tokens.NATIVE_MINT))
    assert wrapped is not None
    assert wrapped.lamports == 3 * SOL + at.chain.svm.minimum_balance_for_rent_exemption(165)
    assert at.chain.svm.minimum_balance_for_rent_exemption(165) == 1_855_569
    assert at.chain.token_balance(Pubkey.new_unique(), USDC) == 0
