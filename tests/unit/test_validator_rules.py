"""The validator's tables, one by one: what each program may be asked for, and that everything else is refused."""

from __future__ import annotations

import struct

import pytest
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction

from venues.solana.answers import AccountInfo
from venues.solana.lookup import LOOKUP_TABLE_PROGRAM
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import (
    ATA,
    COMPUTE_BUDGET,
    DFLOW,
    JUPITER,
    KAMINO,
    MARGINFI,
    MEMO,
    SAVE,
    SYSTEM,
    TOKEN,
    USDC_MINT,
    WSOL_MINT,
    Expectation,
    Operation,
    Rules,
)
from venues.solana.rules.forms import FORMS
from venues.solana.rules.validator import Verdict, judge
from venues.solana.view import ChainView

KEY = Keypair.from_seed(bytes(range(32)))
WALLET = KEY.pubkey()
OTHER_WALLET = Keypair.from_seed(b"s" * 32).pubkey()
BANK = Pubkey.find_program_address([b"bank"], KAMINO)[0]
RENT = 1_855_569


def token_account(
    owner: Pubkey, mint: Pubkey, *, delegate: Pubkey | None = None, close: Pubkey | None = None
) -> AccountInfo:
    data = bytearray(165)
    data[0:32], data[32:64], data[108] = bytes(mint), bytes(owner), 1
    if delegate is not None:
        data[72:76], data[76:108] = b"\x01\0\0\0", bytes(delegate)
    if close is not None:
        data[129:133], data[133:165] = b"\x01\0\0\0", bytes(close)
    return AccountInfo(str(TOKEN), RENT, bytes(data))


OWN_USDC = get_associated_token_address(WALLET, USDC_MINT)
OWN_WSOL = get_associated_token_address(WALLET, WSOL_MINT)
THEIR_USDC = get_associated_token_address(OTHER_WALLET, USDC_MINT)
CHAIN: dict[Pubkey, AccountInfo | None] = {
    WALLET: AccountInfo(str(SYSTEM), 5 * 10**9, b""),
    OTHER_WALLET: AccountInfo(str(SYSTEM), 10**9, b""),
    OWN_USDC: token_account(WALLET, USDC_MINT),
    OWN_WSOL: token_account(WALLET, WSOL_MINT),
    THEIR_USDC: token_account(OTHER_WALLET, USDC_MINT),
    USDC_MINT: AccountInfo(str(TOKEN), 1, bytes(82)),
    WSOL_MINT: AccountInfo(str(TOKEN), 1, bytes(82)),
}
for _program in (SYSTEM, TOKEN, ATA, MEMO, COMPUTE_BUDGET, JUPITER, KAMINO, MARGINFI, SAVE, DFLOW):
    CHAIN[_program] = AccountInfo("NativeLoader1111111111111111111111111111111", 1, b"", executable=True)


def expectation(op: Operation = Operation.OPEN, **changes: object) -> Expectation:
    fields: dict[str, object] = {
        "op": op,
        "wallet": WALLET,
        "lender": KAMINO,
        "market": None,
        "asset_mint": WSOL_MINT,
        "asset_bank": BANK,
        "usdc_bank": BANK,
    }
    return Expectation(**(fields | changes))  # type: ignore[arg-type]


class Chain(dict[Pubkey, AccountInfo | None]):
    """What is not listed is absent."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: Pubkey) -> None:
        return None


def compiled(*instructions: Instruction, signers: tuple[Keypair, ...] = ()) -> VersionedTransaction:
    message = MessageV0.try_compile(WALLET, list(instructions), [], Hash.default())
    raw = to_bytes_versioned(message)
    by_key = {one.pubkey(): one.sign_message(raw) for one in signers}
    keys = message.account_keys[: message.header.num_required_signatures]
    return VersionedTransaction.populate(message, [by_key.get(key, Signature.default()) for key in keys])


def verdict_on(
    *instructions: Instruction,
    wanted: Expectation | None = None,
    rules: Rules | None = None,
    chain: dict[Pubkey, AccountInfo | None] | None = None,
    signers: tuple[Keypair, ...] = (),
) -> Verdict | Refused:
    view = ChainView(Chain(CHAIN | (chain or {})), {165: RENT, 1300: 9_000_000})
    return judge([bytes(compiled(*instructions, signers=signers))], wanted or expectation(), view, rules)


def rule_of(*instructions: Instruction, **more: object) -> str:
    verdict = verdict_on(*instructions, **more)  # type: ignore[arg-type]
    return verdict.rule if isinstance(verdict, Refused) else "approved"


def w(key: Pubkey, signer: bool = False) -> AccountMeta:
    return AccountMeta(key, signer, True)


def r(key: Pubkey, signer: bool = False) -> AccountMeta:
    return AccountMeta(key, signer, False)


ME = r(WALLET, True)


def token(data: bytes, *accounts: AccountMeta) -> Instruction:
    return Instruction(TOKEN, data, list(accounts))


def system(tag: int, rest: bytes, *accounts: AccountMeta) -> Instruction:
    return Instruction(SYSTEM, tag.to_bytes(4, "little") + rest, list(accounts))


def temporary_account(wallet: Pubkey) -> tuple[VersionedTransaction, ChainView, Pubkey]:
    """A transaction that makes a wrapped-SOL account under a key of the builder's, and the chain it stands on."""
    assert wallet == WALLET
    fresh = Keypair.from_seed(b"f" * 32)
    make = system(0, struct.pack("<QQ", RENT, 165) + bytes(TOKEN), w(WALLET, True), w(fresh.pubkey(), True))
    init = token(b"\x12" + bytes(WALLET), w(fresh.pubkey()), r(WSOL_MINT))
    close = token(b"\x09", w(fresh.pubkey()), w(WALLET), ME)
    view = ChainView(Chain(CHAIN), {165: RENT})
    return compiled(make, init, close, signers=(fresh,)), view, fresh.pubkey()


@pytest.mark.parametrize("tag", range(256))
def test_every_tag_of_the_token_program(tag: int) -> None:
    """On our own account with our own authority: only what cannot hurt passes, whatever the tag."""
    amount = struct.pack("<Q", 5)
    shapes = {
        3: (amount, (w(OWN_USDC), w(OWN_USDC), ME)),
        9: (b"", (w(OWN_USDC), w(WALLET), ME)),
        12: (amount + b"\x06", (w(OWN_USDC), r(USDC_MINT), w(OWN_USDC), ME)),
        17: (b"", (w(OWN_WSOL),)),
    }
    rest, accounts = shapes.get(tag, (amount, (w(OWN_USDC), r(OTHER_WALLET), ME)))
    found = rule_of(token(bytes([tag]) + rest, *accounts))
    assert found == ("approved" if tag in shapes else "token"), tag


@pytest.mark.parametrize("tag", [*range(20), 255, 2**31])
def test_every_tag_of_the_system_program(tag: int) -> None:
    refused = {1: "assign", 10: "assign", 8: "allocate", 9: "allocate"} | dict.fromkeys(
        (4, 5, 6, 7, 12), "durable-nonce"
    )
    data = struct.pack("<Q", 1_000) + bytes(40)
    found = rule_of(system(tag, data, w(WALLET, True), w(OTHER_WALLET)))
    assert found == refused.get(tag, "new-account" if tag in (0, 3) else "system"), tag


def test_transfers_of_lamports() -> None:
    tip = Pubkey.from_string("96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5")

    def pay(to: Pubkey, lamports: int) -> Instruction:
        return system(2, struct.pack("<Q", lamports), w(WALLET, True), w(to))

    assert rule_of(pay(tip, 1_000_000)) == "approved"
    assert rule_of(pay(tip, 1_000_001)) == "tip-cap"
    assert rule_of(pay(tip, 500_000), pay(tip, 500_001)) == "tip-cap"
    assert rule_of(pay(tip, 3_000_000), wanted=expectation(tip_lamports=3_000_000)) == "approved"
    assert rule_of(pay(OTHER_WALLET, 1)) == "transfer-destination"
    assert rule_of(pay(OWN_WSOL, 1)) == "wrap"
    assert rule_of(pay(OWN_WSOL, 7), wanted=expectation(wrap_lamports=7)) == "approved"
    assert rule_of(pay(OWN_USDC, 1)) == "transfer-destination"


def test_withdrawals_go_to_the_one_address_of_the_settings() -> None:
    to_other_wallet = system(2, struct.pack("<Q", 500), w(WALLET, True), w(OTHER_WALLET))
    usdc = token(b"\x03" + struct.pack("<Q", 70), w(OWN_USDC), w(THEIR_USDC), ME)
    asked = expectation(Operation.WITHDRAW, withdraw_lamports=500, withdraw_usdc=70)
    allowed = Rules(withdrawal=OTHER_WALLET)
    assert rule_of(to_other_wallet, usdc, wanted=asked, rules=allowed) == "approved"
    assert rule_of(to_other_wallet, wanted=asked) == "transfer-destination"
    assert rule_of(usdc, wanted=asked, rules=Rules(withdrawal=WALLET)) == "transfer-destination"
    assert rule_of(to_other_wallet, to_other_wallet, wanted=asked, rules=allowed) == "withdraw"
    assert rule_of(usdc, usdc, wanted=asked, rules=allowed) == "withdraw"
    assert rule_of(to_other_wallet, wanted=expectation(), rules=allowed) == "transfer-destination"
    assert rule_of(usdc, wanted=expectation(), rules=allowed) == "transfer-destination"


@pytest.mark.parametrize(
    ("payer", "account", "owner", "mint", "data", "rule"),
    [
        (WALLET, OWN_USDC, WALLET, USDC_MINT, b"", "approved"),
        (WALLET, OWN_USDC, WALLET, USDC_MINT, b"\x00", "approved"),
        (WALLET, OWN_WSOL, WALLET, WSOL_MINT, b"\x01", "approved"),
        (WALLET, OWN_USDC, WALLET, USDC_MINT, b"\x02", "ata"),
        (WALLET, OWN_USDC, WALLET, USDC_MINT, b"\x01\x00", "ata"),
        (WALLET, THEIR_USDC, OTHER_WALLET, USDC_MINT, b"\x01", "ata"),
        (WALLET, THEIR_USDC, WALLET, USDC_MINT, b"\x01", "ata"),
        (WALLET, OWN_USDC, WALLET, OTHER_WALLET, b"\x01", "mint"),
    ],
)
def test_associated_accounts(
    payer: Pubkey, account: Pubkey, owner: Pubkey, mint: Pubkey, data: bytes, rule: str
) -> None:
    accounts = [w(payer, True), w(account), r(owner), r(mint), r(SYSTEM), r(TOKEN)]
    assert rule_of(Instruction(ATA, data, accounts)) == rule


def test_compute_budget_once_each_in_exact_shape() -> None:
    assert rule_of(set_compute_unit_limit(5)) == "approved"
    assert rule_of(set_compute_unit_limit(5), set_compute_unit_limit(5)) == "compute-budget"
    for data in (b"", b"\x00" + bytes(4), b"\x02\x01", b"\x03" + bytes(9), b"\x05" + bytes(4)):
        assert rule_of(Instruction(COMPUTE_BUDGET, data, [])) == "compute-budget"
    for tag, size in ((1, 4), (2, 4), (3, 8), (4, 4)):
        assert rule_of(Instruction(COMPUTE_BUDGET, bytes([tag]) + bytes(size), [])) == "approved"


@pytest.mark.parametrize("program", [KAMINO, MARGINFI, SAVE])
def test_every_discriminator_of_a_lender_that_is_not_listed_is_refused(program: Pubkey) -> None:
    wanted = expectation(lender=program)
    size = 1 if program == SAVE else 8
    for number in range(256):
        head = bytes([number]) * size
        if head not in FORMS[program]:
            assert rule_of(Instruction(program, head + bytes(8), [ME]), wanted=wanted) == "discriminator"
    assert rule_of(Instruction(program, b"", [ME]), wanted=wanted) == "discriminator"


@pytest.mark.parametrize("program", [KAMINO, MARGINFI, SAVE])
def test_every_form_of_a_lender_fails_closed_on_foreign_accounts(program: Pubkey) -> None:
    """Right discriminator, right length, somebody else in every place: never approved, for no operation."""
    for op in Operation:
        for head, form in FORMS[program].items():
            size = 1 if program == SAVE else 8
            data = head + bytes(min(form.lengths) - size)
            accounts = [w(OTHER_WALLET)] * 14
            found = rule_of(Instruction(program, data, accounts), wanted=expectation(op, lender=program))
            assert found not in ("approved", "not-understood"), (op, form.name)


def test_programs_that_are_not_listed() -> None:
    for program in (
        OTHER_WALLET,
        LOOKUP_TABLE_PROGRAM,
        Pubkey.from_string("Stake11111111111111111111111111111111111111"),
    ):
        assert rule_of(Instruction(program, b"\x01", [w(WALLET, True)])) == "program"
    assert rule_of(Instruction(MEMO, b"note", [])) == "approved"
    hidden = AccountInfo("BPFLoaderUpgradeab1e11111111111111111111111", 1, b"", executable=True)
    assert rule_of(Instruction(MEMO, b"note", [r(OTHER_WALLET)]), chain={OTHER_WALLET: hidden}) == "program"
    allowed = Rules(cpi_programs=frozenset({OTHER_WALLET}))
    assert (
        rule_of(Instruction(MEMO, b"note", [r(OTHER_WALLET)]), chain={OTHER_WALLET: hidden}, rules=allowed)
        == "approved"
    )


def test_nothing_of_another_wallet_is_written_to() -> None:
    assert rule_of(Instruction(MEMO, b"note", [w(OTHER_WALLET)])) == "foreign"
    assert rule_of(Instruction(MEMO, b"note", [w(THEIR_USDC)])) == "foreign"
    assert rule_of(Instruction(MEMO, b"note", [r(OTHER_WALLET), r(THEIR_USDC)])) == "approved"


def test_a_delegate_or_a_close_authority_keeps_us_from_entering_only() -> None:
    sync = token(b"\x11", w(OWN_WSOL))
    for changed in (
        token_account(WALLET, WSOL_MINT, delegate=OTHER_WALLET),
        token_account(WALLET, WSOL_MINT, close=OTHER_WALLET),
    ):
        assert rule_of(sync, chain={OWN_WSOL: changed}) == "token-owner"
        assert (
            rule_of(sync, chain={OWN_WSOL: changed}, wanted=expectation(Operation.REPAY_DEBT)) == "approved"
        )
    foreign = token_account(OTHER_WALLET, WSOL_MINT)
    assert rule_of(sync, chain={OWN_WSOL: foreign}, wanted=expectation(Operation.CLOSE)) == "token-owner"


def test_a_temporary_account_and_what_may_go_wrong_with_it() -> None:
    tx, view, fresh = temporary_account(WALLET)
    assert isinstance(judge([bytes(tx)], expectation(), view), Verdict)
    exists = ChainView(Chain(CHAIN | {fresh: AccountInfo(str(SYSTEM), 1, b"")}), {165: RENT})
    verdict = judge([bytes(tx)], expectation(), exists)
    assert isinstance(verdict, Refused) and verdict.rule == "new-account"
    cheap = judge([bytes(tx)], expectation(), view, Rules(rent_cap_lamports=RENT - 1))
    assert isinstance(cheap, Refused) and cheap.rule == "rent"
    unknown = judge([bytes(tx)], expectation(), ChainView(Chain(CHAIN)))
    assert isinstance(unknown, Refused) and unknown.rule == "chain-view"


def test_an_obligation_of_save_is_derived_from_our_wallet() -> None:
    def make(seed: str, base: Pubkey = WALLET, lamports: int = 9_000_000, size: int = 1300) -> Instruction:
        account = Pubkey.create_with_seed(base, seed, SAVE)
        rest = (
            bytes(base)
            + struct.pack("<Q", len(seed))
            + seed.encode()
            + struct.pack("<QQ", lamports, size)
            + bytes(SAVE)
        )
        return system(3, rest, w(WALLET, True), w(account), *([] if base == WALLET else [r(base)]))

    save = expectation(lender=SAVE)
    assert rule_of(make("one"), wanted=save) == "approved"
    assert rule_of(make("one", base=OTHER_WALLET), wanted=save) == "new-account"
    assert rule_of(make("one", size=1299), wanted=save) == "new-account"
    assert rule_of(make("one", lamports=2 * 10**9), wanted=save) == "rent"
    assert rule_of(make("one")) == "new-account"  # an opening at Kamino
    assert rule_of(make("one"), wanted=expectation(Operation.CLOSE, lender=SAVE)) == "new-account"


@pytest.mark.parametrize(
    ("account", "what"),
    [
        (None, "does not exist"),
        (AccountInfo(str(TOKEN), 1, bytes(56 + 64)), "belongs to"),
        (AccountInfo(str(LOOKUP_TABLE_PROGRAM), 1, b"\x01"), "unreadable"),
        (
            AccountInfo(
                str(LOOKUP_TABLE_PROGRAM),
                1,
                struct.pack("<IQQBB32sH", 1, 5, 0, 0, 0, bytes(32), 0) + bytes(64),
            ),
            "deactivated",
        ),
        (
            AccountInfo(
                str(LOOKUP_TABLE_PROGRAM), 1, struct.pack("<IQQBB32sH", 1, 2**64 - 1, 0, 0, 0, bytes(32), 0)
            ),
            "outside",
        ),
    ],
)
def test_lookup_tables_that_cannot_be_used(account: AccountInfo | None, what: str) -> None:
    from solders.address_lookup_table_account import AddressLookupTableAccount

    table = AddressLookupTableAccount(OTHER_WALLET, [Pubkey.new_unique(), THEIR_USDC])
    memo = Instruction(MEMO, b"note", [r(THEIR_USDC)])
    message = MessageV0.try_compile(WALLET, [memo], [table], Hash.default())
    tx = VersionedTransaction.populate(message, [Signature.default()])
    verdict = judge([bytes(tx)], expectation(), ChainView(Chain(CHAIN | {OTHER_WALLET: account})))
    assert isinstance(verdict, Refused) and verdict.rule == "lookup-table" and what in verdict.reason
    unread = judge([bytes(tx)], expectation(), ChainView(CHAIN))
    assert isinstance(unread, Refused)


def test_discriminators_are_those_of_the_published_clients() -> None:
    """Bytes as klend's own generated client has them."""
    published = {
        "deposit_reserve_liquidity_and_obligation_collateral_v2": [216, 224, 191, 27, 204, 151, 102, 175],
        "borrow_obligation_liquidity_v2": [161, 128, 143, 245, 171, 199, 194, 6],
        "repay_obligation_liquidity_v2": [116, 174, 213, 76, 180, 53, 210, 144],
        "withdraw_obligation_collateral_and_redeem_reserve_collateral_v2": [
            235,
            52,
            119,
            152,
            149,
            197,
            20,
            7,
        ],
        "flash_repay_reserve_liquidity": [185, 117, 0, 203, 96, 245, 180, 186],
        "init_user_metadata": [117, 169, 176, 69, 197, 23, 15, 162],
        "init_obligation_farms_for_reserve": [136, 63, 15, 186, 211, 152, 168, 164],
        "refresh_obligation_farms_for_reserve": [140, 144, 253, 21, 10, 74, 248, 3],
    }
    for name, data in published.items():
        assert FORMS[KAMINO][bytes(data)].name == name
