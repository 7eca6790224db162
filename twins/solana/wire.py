"""Bytes to transactions as a node reads them, and the plain values of an execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from twins.solana.errors import INVALID_PARAMS, RpcError, TransactionErr
from twins.solana.execution import Execution
from twins.solana.ledger import ResolvedKeys

MAX_TRANSACTION_BYTES = 1232
MAX_BASE64_CHARS = 1644
MAX_BASE58_CHARS = 1683
_TYPE = "solana_transaction::versioned::VersionedTransaction"


def too_large(size: int, encoding: str, encoded_limit: int) -> RpcError:
    limits = f"(max: encoded/raw {encoded_limit}/{MAX_TRANSACTION_BYTES})"
    return RpcError(INVALID_PARAMS, f"{encoding} encoded {_TYPE} too large: {size} bytes {limits}")


def decode(raw: bytes) -> VersionedTransaction:
    """Return a sanitized legacy or v0 transaction; raises `RpcError` -32602 in the node's words."""
    if len(raw) > MAX_TRANSACTION_BYTES:
        message = f"decoded {_TYPE} too large: {len(raw)} bytes (max: {MAX_TRANSACTION_BYTES} bytes)"
        raise RpcError(INVALID_PARAMS, message)
    try:
        tx = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"failed to deserialize {_TYPE}: {error}") from error
    if not isinstance(tx.message, Message | MessageV0):
        raise RpcError(INVALID_PARAMS, "invalid transaction: Transaction version is unsupported")
    try:
        tx.sanitize()
    except Exception as error:
        sentence = "Transaction failed to sanitize accounts offsets correctly"
        raise RpcError(INVALID_PARAMS, f"invalid transaction: {sentence}") from error
    return tx


def with_blockhash(tx: VersionedTransaction, blockhash: Hash) -> VersionedTransaction:
    """Return the same transaction on another blockhash; its signatures no longer fit."""
    old = tx.message
    if isinstance(old, MessageV0):
        message: Message | MessageV0 = MessageV0(
            old.header, old.account_keys, blockhash, old.instructions, old.address_table_lookups
        )
    else:
        header = old.header
        message = Message.new_with_compiled_instructions(
            header.num_required_signatures,
            header.num_readonly_signed_accounts,
            header.num_readonly_unsigned_accounts,
            old.account_keys,
            blockhash,
            old.instructions,
        )
    return VersionedTransaction.populate(message, tx.signatures)


def not_run(tx: VersionedTransaction, err: TransactionErr | None) -> Execution:
    """Return a transaction that is not run on the SVM."""
    return Execution(err, False, 0, (), 0, ResolvedKeys(tuple(tx.message.account_keys)), {}, {}, {})


def preflight_data(execution: Execution) -> dict[str, Any]:
    """Return `data` of a preflight failure."""
    return {
        "err": execution.err,
        "logs": list(execution.logs),
        "accounts": None,
        "innerInstructions": None,
        "loadedAccountsDataSize": loaded_bytes(execution),
        "replacementBlockhash": None,
        "returnData": None,
        "unitsConsumed": execution.units_consumed,
    }


def loaded_bytes(execution: Execution) -> int:
    return sum(len(account.data) for account in execution.before.values() if account)


def lamports(keys: Sequence[Pubkey], accounts: dict[Pubkey, Account | None]) -> tuple[int, ...]:
    found = (accounts.get(key) for key in keys)
    return tuple(account.lamports if account else 0 for account in found)
