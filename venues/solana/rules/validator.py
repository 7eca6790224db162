"""The verdict between build and sign: every transaction of a build against every rule, before any of them is approved.

Static rules alone must suffice, because a program can notice that it is simulated; `simulation` is a second
line behind them. The rules: docs/rules.md, "What may be signed"; each refusal names its rule. Pure: the
chain comes as a `ChainView`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from venues.solana.lookup import resolve
from venues.solana.rules.accounts import (
    check_extra_signers,
    check_made,
    check_programs,
    check_signers,
    check_writable,
)
from venues.solana.rules.amounts import check_amounts
from venues.solana.rules.approval import Approved, Refused, take_token
from venues.solana.rules.common import (
    ATA,
    COMPUTE_BUDGET,
    LENDERS,
    MEMO,
    ROUTERS,
    SYSTEM,
    TOKEN,
    TOKEN_2022,
    Draft,
    Expectation,
    Operation,
    Rules,
    Step,
)
from venues.solana.rules.derived import check_absent
from venues.solana.rules.lending import check_lender
from venues.solana.rules.router import check_price, check_router
from venues.solana.rules.system import SAVE_OBLIGATION_BYTES, add_fee, check_budget, check_system
from venues.solana.rules.token import TOKEN_ACCOUNT_BYTES, check_ata, check_token
from venues.solana.view import ChainView, Keys, Violation

MAX_BYTES = 1232
MAX_TRANSACTIONS = 4
NOT_UNDERSTOOD = "not-understood"
"""Refused because judging failed: safe, but a fault of ours that tests must not see."""
_APPROVAL = take_token()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A build that passed: one `Approved` for each transaction in order, the position it works on, and what it costs."""

    approved: tuple[Approved, ...]
    position: Pubkey | None
    fee_lamports: int
    tip_lamports: int
    rent_lamports: int
    keys: tuple[Keys, ...]
    warnings: tuple[str, ...] = ()
    """What of a way out is not understood: its simulation must pass, and the operator hears of it."""
    unknown_programs: frozenset[Pubkey] = frozenset()


def decode(encoded: str | bytes) -> VersionedTransaction:
    """Return the v0 transaction of base64 text, or bytes, whose every byte is accounted for. Raises `Violation`."""
    if isinstance(encoded, str):
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise Violation("encoding", "a transaction is not valid base64") from None
    elif isinstance(encoded, bytes):
        raw = encoded
    else:
        raise Violation("encoding", f"a transaction came as {type(encoded).__name__}, not as base64 text")
    if len(raw) > MAX_BYTES:
        raise Violation("size", f"a transaction has {len(raw)} bytes, the limit is {MAX_BYTES}")
    try:
        tx = VersionedTransaction.from_bytes(raw)
        again, version = bytes(tx), tx.version()
    except BaseException as error:  # solders may panic past Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise Violation("decode", f"a transaction does not decode: {error}") from None
    if version != 0 or not isinstance(tx.message, MessageV0):
        raise Violation("version", f"a transaction has version {version}; only version 0 is signed")
    if again != raw:
        raise Violation(
            "trailing-bytes", "a transaction has bytes that its decoded form does not account for"
        )
    try:
        tx.sanitize()
    except Exception as error:
        raise Violation("sanitize", f"a transaction does not pass sanitizing: {error}") from None
    return tx


def judge(
    build: Sequence[str | bytes], expectation: Expectation, view: ChainView, rules: Rules | None = None
) -> Verdict | Refused:
    """Judge all transactions of a build, or none. Never raises: what we fail to understand is refused like the rest."""
    try:
        return _judged(build, expectation, view, rules or Rules())
    except Violation as broken:
        return Refused(broken.rule, broken.reason)
    except BaseException as error:  # the decoder may panic past Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        return Refused(NOT_UNDERSTOOD, f"the validator failed on it: {type(error).__name__}")


def _judged(build: Sequence[str | bytes], expectation: Expectation, view: ChainView, rules: Rules) -> Verdict:
    if not 1 <= len(build) <= MAX_TRANSACTIONS:
        raise Violation("size", f"a build of {len(build)} transactions, the limit is {MAX_TRANSACTIONS}")
    transactions = [decode(one) for one in build]
    messages = [to_bytes_versioned(tx.message) for tx in transactions]
    if len(set(messages)) != len(messages):
        raise Violation("duplicate", "the build holds the same transaction twice")
    draft = Draft(expectation, rules, view, expectation.wallet)
    keys = tuple(_check_transaction(tx, draft) for tx in transactions)
    check_amounts(draft)
    check_price(draft)
    approved = tuple(
        Approved(_APPROVAL, tx, message, expectation.wallet)
        for tx, message in zip(transactions, messages, strict=True)
    )
    return Verdict(
        approved,
        draft.position,
        draft.fee_lamports,
        draft.tip_lamports,
        draft.rent_lamports,
        keys,
        tuple(dict.fromkeys(draft.warnings)),
        frozenset(draft.unknown_programs),
    )


def _check_transaction(tx: VersionedTransaction, draft: Draft) -> Keys:
    draft.next_transaction()
    check_signers(tx, draft.wallet)
    if tx.uses_durable_nonce():
        raise Violation("durable-nonce", "a transaction that uses a durable nonce never expires")
    keys = resolve(tx, draft.view)
    steps = [_step(index, compiled, keys) for index, compiled in enumerate(tx.message.instructions)]
    for step in steps:
        _CHECKS.get(step.program, _unknown_program)(step, draft)
    check_extra_signers(keys, draft)
    check_made(draft)
    check_programs(keys, steps, draft)
    check_absent(keys, draft)
    check_writable(keys, draft)
    if draft.flashes:
        raise Violation(
            "flash-loan", f"a flash loan of {draft.flashes[0].amount} is not repaid in its transaction"
        )
    add_fee(draft, tx.message.header.num_required_signatures, steps)
    return keys


def _step(index: int, compiled: object, keys: Keys) -> Step:
    at = compiled.program_id_index  # type: ignore[attr-defined]
    accounts = bytes(compiled.accounts)  # type: ignore[attr-defined]
    if max((at, *accounts)) >= len(keys.every):
        raise Violation(
            "accounts", f"instruction {index} names an account that the transaction does not have"
        )
    return Step(
        index,
        keys.every[at],
        bytes(compiled.data),  # type: ignore[attr-defined]
        tuple(keys.every[one] for one in accounts),
        keys,
    )


def _unknown_program(step: Step, draft: Draft) -> None:
    if step.program == TOKEN_2022:
        raise Violation("token-2022", "Token-2022 is called; our mints are classic SPL tokens")
    raise Violation(
        "program", f"instruction {step.index} calls program {step.program}, which is not on the allowlist"
    )


def _memo(step: Step, draft: Draft) -> None:
    if draft.expectation.op is Operation.WITHDRAW and step.accounts:
        raise Violation("memo", "a memo with accounts")


_CHECKS: dict[Pubkey, Callable[[Step, Draft], None]] = {
    SYSTEM: check_system,
    COMPUTE_BUDGET: check_budget,
    TOKEN: check_token,
    ATA: check_ata,
    MEMO: _memo,
    **dict.fromkeys(ROUTERS, check_router),
    **dict.fromkeys(LENDERS, check_lender),
}


def sizes_wanted(build: Sequence[VersionedTransaction]) -> list[int]:
    """Return the account sizes whose rent a verdict will ask for: those that System creates in these transactions."""
    wanted: dict[int, None] = {}
    for tx in build:
        keys = tx.message.account_keys
        for compiled in tx.message.instructions:
            if compiled.program_id_index < len(keys) and keys[compiled.program_id_index] == SYSTEM:
                tag = bytes(compiled.data)[:4]
                if tag == bytes(4):
                    wanted[TOKEN_ACCOUNT_BYTES] = None
                elif tag == b"\x03\0\0\0":
                    wanted[SAVE_OBLIGATION_BYTES] = None
    return list(wanted)
