"""The unmodified `solana` AsyncClient works against the Solana twin over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException, TransactionExpiredBlockheightExceededError
from solana.rpc.models import TokenAccountOpts, TxOpts
from solders.address_lookup_table_account import AddressLookupTable, AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.rpc.responses import SendTransactionResp
from solders.transaction_status import TransactionConfirmationStatus
from spl.token.instructions import create_idempotent_associated_token_account

from tests.chains import SOL, USDC, Bench, bench
from twins.http import served
from twins.solana.programs import EmulatedEffect, ProgramError
from twins.solana.rpc import SolanaTwin

OPTS = TxOpts(preflight_commitment=Processed)
PROGRAM = Pubkey.new_unique()


@pytest.fixture
def at() -> Bench:
    return bench()


@pytest.fixture
async def client(at: Bench) -> AsyncIterator[AsyncClient]:
    async with served(SolanaTwin(at.chain).app) as url, AsyncClient(url, commitment=Processed) as made:
        yield made


async def test_a_transfer_sent_confirmed_and_read_back(at: Bench, client: AsyncClient) -> None:
    assert await client.is_connected()
    latest = (await client.get_latest_blockhash(Confirmed)).value
    receiver = Pubkey.new_unique()
    tx = at.pay(receiver, SOL, latest.blockhash)
    sent = await client.send_transaction(tx, OPTS)
    assert isinstance(sent, SendTransactionResp) and sent.value == tx.signatures[0]
    at.pass_blocks(2)
    confirmed = await client.confirm_transaction(
        sent.value, Confirmed, sleep_seconds=0.01, last_valid_block_height=latest.last_valid_block_height
    )
    assert confirmed.value[0] is not None and confirmed.value[0].err is None
    assert (await client.get_balance(receiver, Confirmed)).value == SOL
    assert (await client.get_balance(receiver, Finalized)).value == 0
    at.pass_blocks(30)
    assert (await client.get_balance(receiver, Finalized)).value == SOL

    found = await client.get_transaction(sent.value, "json", Confirmed, max_supported_transaction_version=1)
    assert found.value is not None and found.value.transaction.meta is not None
    assert found.value.transaction.meta.fee == 5_000
    raw = await client.get_transaction(sent.value, "base64", Confirmed, max_supported_transaction_version=1)
    assert raw.value is not None and bytes(raw.value.transaction.transaction) == bytes(tx)
    parsed = await client.get_transaction(
        sent.value, "jsonParsed", Confirmed, max_supported_transaction_version=1
    )
    assert parsed.value is not None
    with pytest.raises(RPCException):
        await client.get_transaction(sent.value, "json", Confirmed)
    listed = await client.get_signatures_for_address(receiver, commitment=Confirmed)
    assert [row.signature for row in listed.value] == [sent.value]
    assert (await client.get_block_time(found.value.slot)).value == found.value.block_time


async def test_statuses_with_and_without_history(at: Bench, client: AsyncClient) -> None:
    signature = (await client.send_transaction(at.pay(Pubkey.new_unique(), SOL), OPTS)).value
    first = (await client.get_signature_statuses([signature])).value[0]
    assert first is not None
    assert first.confirmation_status == TransactionConfirmationStatus.Processed
    at.pass_blocks(400)
    assert (await client.get_signature_statuses([signature])).value == [None]
    old = (await client.get_signature_statuses([signature], search_transaction_history=True)).value[0]
    assert old is not None and old.confirmation_status == TransactionConfirmationStatus.Finalized


async def test_an_expired_transaction_is_refused_and_reported(at: Bench, client: AsyncClient) -> None:
    latest = (await client.get_latest_blockhash()).value
    tx = at.pay(Pubkey.new_unique(), SOL, latest.blockhash)
    at.pass_blocks(151)
    with pytest.raises(RPCException) as caught:
        await client.send_transaction(tx, OPTS)
    refused = caught.value.args[0]
    assert refused.message == "Transaction simulation failed: Blockhash not found"
    with pytest.raises(TransactionExpiredBlockheightExceededError):
        await client.confirm_transaction(
            tx.signatures[0], Processed, 0.01, last_valid_block_height=latest.last_valid_block_height
        )


async def test_heights_by_commitment_and_cluster_state(at: Bench, client: AsyncClient) -> None:
    heights = [(await client.get_block_height(name)).value for name in (Processed, Confirmed, Finalized)]
    assert (heights[0] - heights[1], heights[0] - heights[2]) == (2, 32)
    slots = [(await client.get_slot(name)).value for name in (Processed, Confirmed, Finalized)]
    assert slots[0] > slots[1] > slots[2]
    epoch = (await client.get_epoch_info(Processed)).value
    assert (epoch.absolute_slot, epoch.block_height) == (slots[0], heights[0])
    assert (await client.get_version()).value.solana_core
    assert (await client.get_genesis_hash()).value
    samples = (await client.get_recent_performance_samples(5)).value
    assert len(samples) == 5
    assert 0.235 < samples[0].sample_period_secs / samples[0].num_slots < 0.24
    assert (await client.get_blocks(slots[2] - 10, slots[2])).value
    assert (await client.get_minimum_balance_for_rent_exemption(165)).value == 1_855_569


async def test_token_accounts(at: Bench, client: AsyncClient) -> None:
    wallet = at.wallet.pubkey()
    key = at.chain.ata(wallet, USDC)
    assert (await client.get_token_account_balance(key)).value.ui_amount_string == "1000"
    owned = (await client.get_token_accounts_by_owner(wallet, TokenAccountOpts(mint=USDC))).value
    assert [row.pubkey for row in owned] == [key]
    parsed = (await client.get_token_accounts_by_owner_json_parsed(wallet, TokenAccountOpts(mint=USDC))).value
    assert parsed[0].account.data.parsed["info"]["owner"] == str(wallet)
    assert (await client.get_token_supply(USDC)).value.decimals == 6
    info = (await client.get_account_info(key)).value
    assert info is not None and len(info.data) == 165
    several = (await client.get_multiple_accounts([key, Pubkey.new_unique()])).value
    assert several[0] is not None and several[1] is None

    friend = Pubkey.new_unique()
    target = at.chain.ata(friend, USDC)
    step = Instruction(
        info.owner,
        b"\x03" + (250_000).to_bytes(8, "little"),
        [AccountMeta(key, False, True), AccountMeta(target, False, True), AccountMeta(wallet, True, False)],
    )
    create = create_idempotent_associated_token_account(wallet, friend, USDC)
    signature = (await client.send_transaction(at.signed(create, step), OPTS)).value
    assert (await client.get_token_account_balance(target)).value.amount == "250000"
    at.pass_blocks(2)
    found = await client.get_transaction(signature, "json", Confirmed, max_supported_transaction_version=1)
    assert found.value is not None and found.value.transaction.meta is not None
    rows = found.value.transaction.meta.post_token_balances or []
    assert {(row.owner, row.ui_token_amount.amount) for row in rows} == {
        (wallet, "999750000"),
        (friend, "250000"),
    }


async def test_a_transaction_through_a_lookup_table(at: Bench, client: AsyncClient) -> None:
    receiver = Pubkey.new_unique()
    table_key = at.chain.create_lookup_table([Pubkey.new_unique(), receiver])
    account = (await client.get_account_info(table_key)).value
    assert account is not None
    addresses = AddressLookupTable.deserialize(bytes(account.data)).addresses
    tx = at.signed(at.transfer(receiver, SOL), tables=[AddressLookupTableAccount(table_key, addresses)])
    assert receiver not in tx.message.account_keys
    seen = (await client.simulate_transaction(tx, sig_verify=True)).value
    assert seen.err is None and seen.loaded_addresses is not None
    assert seen.loaded_addresses.writable == [receiver]
    signature = (await client.send_transaction(tx, OPTS)).value
    at.pass_blocks(2)
    assert (await client.get_balance(receiver, Confirmed)).value == SOL
    found = await client.get_transaction(signature, "json", Confirmed, max_supported_transaction_version=1)
    assert found.value is not None and found.value.transaction.meta is not None
    loaded = found.value.transaction.meta.loaded_addresses
    assert loaded is not None and loaded.writable == [receiver]


async def test_fees_are_asked_and_paid(at: Bench, client: AsyncClient) -> None:
    at.chain.control("congestion", {"micro_lamports": 50_000})
    recent = (await client.get_recent_prioritization_fees([at.wallet.pubkey()])).value
    assert len(recent) == 150 and max(row.prioritization_fee for row in recent) >= 50_000
    tx = at.signed(set_compute_unit_price(10_000), at.transfer(Pubkey.new_unique(), SOL))
    assert (await client.get_fee_for_message(tx.message)).value == 5_060
    before = (await client.get_balance(at.wallet.pubkey())).value
    await client.send_transaction(tx, OPTS)
    assert (await client.get_balance(at.wallet.pubkey())).value == before - SOL - 5_060


async def test_simulation_carries_all_its_fields(at: Bench, client: AsyncClient) -> None:
    wallet = at.wallet.pubkey()
    at.chain.emulate(PROGRAM, lambda call: EmulatedEffect([(wallet, USDC, -5)], logs=["took 5"]))
    friend = Pubkey.new_unique()
    create = create_idempotent_associated_token_account(wallet, friend, USDC)
    tx = at.signed(create, at.call(PROGRAM, b"", at.chain.ata(wallet, USDC)))
    value = (await client.simulate_transaction(tx)).value
    assert value.err is None and value.fee == 5_000
    assert value.pre_balances is not None and value.post_balances is not None
    rent = at.chain.svm.minimum_balance_for_rent_exemption(165)
    assert value.pre_balances[0] - value.post_balances[0] == 5_000 + rent
    before, after = value.pre_token_balances or [], value.post_token_balances or []
    assert [row.ui_token_amount.amount for row in before] == ["1000000000"]
    assert {row.ui_token_amount.amount for row in after} == {"999999995", "0"}
    assert "Program log: took 5" in (value.logs or [])


async def test_a_failing_program_is_refused_in_preflight_and_lands_without_it(
    at: Bench, client: AsyncClient
) -> None:
    def refuse(_: object) -> EmulatedEffect:
        raise ProgramError(6001, "unhealthy")

    at.chain.emulate(PROGRAM, refuse)
    tx = at.signed(at.call(PROGRAM))
    with pytest.raises(RPCException) as caught:
        await client.send_transaction(tx, OPTS)
    refused = caught.value.args[0]
    assert refused.message.endswith("custom program error: 0x1771")
    assert refused.data.logs[-2] == "Program log: unhealthy"
    signature = (await client.send_transaction(tx, TxOpts(skip_preflight=True))).value
    confirmed = await client.confirm_transaction(signature, Processed, 0.01)
    assert confirmed.value[0] is not None and confirmed.value[0].err is not None


async def test_an_airdrop(at: Bench, client: AsyncClient) -> None:
    receiver = Pubkey.new_unique()
    signature = (await client.request_airdrop(receiver, 3 * SOL)).value
    await client.confirm_transaction(signature, Processed, 0.01)
    assert (await client.get_balance(receiver)).value == 3 * SOL
