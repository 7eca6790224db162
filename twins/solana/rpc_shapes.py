"""The JSON shapes of a node's answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction

from twins.solana import b58, tokens, wire
from twins.solana.errors import INVALID_REQUEST, UNSUPPORTED_TRANSACTION_VERSION, RpcError
from twins.solana.execution import Execution
from twins.solana.ledger import LandedTransaction, ResolvedKeys, TokenBalance
from twins.solana.rpc_params import invalid

_RENT_EPOCH = 2**64 - 1
_BASE58_ACCOUNT_BYTES = 128


def token_amount(amount: int, decimals: int) -> dict[str, Any]:
    """Return `uiTokenAmount`; `uiAmount` is null for zero, as nodes that read it from their archive answer."""
    whole = Decimal(amount).scaleb(-decimals)
    text = f"{whole:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": float(whole) if amount else None,
        "uiAmountString": text,
    }


def account(
    found: Account | None, encoding: str | None, lookup: tokens.Lookup, cut: dict[str, int] | None = None
) -> dict[str, Any] | None:
    """Return an account as `getAccountInfo` shows it. `cut` is its `dataSlice`."""
    if found is None or found.lamports == 0:
        return None
    data = bytes(found.data)
    shown: Any = None
    if encoding == "jsonParsed":
        shown = _parsed(found, lookup)
    if shown is None:
        sliced = data[cut["offset"] : cut["offset"] + cut["length"]] if cut else data
        if encoding in ("base64", "jsonParsed"):
            shown = [base64.b64encode(sliced).decode(), "base64"]
        elif encoding in (None, "base58"):
            if len(sliced) > _BASE58_ACCOUNT_BYTES:
                message = (
                    "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding."
                )
                raise RpcError(INVALID_REQUEST, message)
            shown = b58.encode(sliced) if encoding is None else [b58.encode(sliced), "base58"]
        else:
            raise invalid(
                f"Invalid params: unknown variant `{encoding}`, expected base58, base64 or jsonParsed."
            )
    return {
        "data": shown,
        "executable": found.executable,
        "lamports": found.lamports,
        "owner": str(found.owner),
        "rentEpoch": _RENT_EPOCH,
        "space": len(data),
    }


def _parsed(found: Account, lookup: tokens.Lookup) -> dict[str, Any] | None:
    program = "spl-token" if found.owner == tokens.TOKEN_PROGRAM else "spl-token-2022"
    if tokens.is_token_account(found):
        token = tokens.read_token(found)
        mint = tokens.read_mint(lookup(token.mint))
        decimals = mint.decimals if mint else 0
        info: dict[str, Any] = {
            "isNative": token.is_native is not None,
            "mint": str(token.mint),
            "owner": str(token.owner),
            "state": "frozen" if found.data[108] == 2 else "initialized",
            "tokenAmount": token_amount(token.amount, decimals),
        }
        if token.delegate is not None:
            info["delegate"] = str(token.delegate)
            info["delegatedAmount"] = token_amount(token.delegated_amount, decimals)
        if token.close_authority is not None:
            info["closeAuthority"] = str(token.close_authority)
        if token.is_native is not None:
            info["rentExemptReserve"] = token_amount(token.is_native, decimals)
        return {"parsed": {"info": info, "type": "account"}, "program": program, "space": len(found.data)}
    mint = tokens.read_mint(found) if len(found.data) == tokens.MINT_BYTES else None
    if mint is None:
        return None
    authority, freeze = mint.mint_authority, mint.freeze_authority
    info = {
        "decimals": mint.decimals,
        "freezeAuthority": str(freeze) if freeze else None,
        "isInitialized": mint.is_initialized,
        "mintAuthority": str(authority) if authority else None,
        "supply": str(mint.supply),
    }
    return {"parsed": {"info": info, "type": "mint"}, "program": program, "space": len(found.data)}


def token_balance(row: TokenBalance) -> dict[str, Any]:
    return {
        "accountIndex": row.account_index,
        "mint": str(row.mint),
        "owner": str(row.owner),
        "programId": str(row.program_id),
        "uiTokenAmount": token_amount(row.amount, row.decimals),
    }


def token_balances(rows: Sequence[TokenBalance]) -> list[dict[str, Any]]:
    return [token_balance(row) for row in rows]


def loaded_addresses(keys: ResolvedKeys) -> dict[str, list[str]]:
    return {
        "writable": [str(key) for key in keys.loaded_writable],
        "readonly": [str(key) for key in keys.loaded_readonly],
    }


def return_data(found: tuple[Pubkey, bytes] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"programId": str(found[0]), "data": [base64.b64encode(found[1]).decode(), "base64"]}


def compiled(program_index: int, accounts: Sequence[int], data: bytes, height: int | None) -> dict[str, Any]:
    return {
        "programIdIndex": program_index,
        "accounts": list(accounts),
        "data": b58.encode(data),
        "stackHeight": height,
    }


def partly_decoded(
    keys: Sequence[Pubkey], program_index: int, accounts: Sequence[int], data: bytes, height: int | None
) -> dict[str, Any]:
    """Return an instruction as the node shows one that it has no parser for."""
    return {
        "programId": str(keys[program_index]),
        "accounts": [str(keys[at]) for at in accounts],
        "data": b58.encode(data),
        "stackHeight": height,
    }


def inner_instructions(
    inner: Sequence[Sequence[InnerInstruction]], keys: Sequence[Pubkey], parsed: bool
) -> list[dict[str, Any]]:
    rows = []
    for index, group in enumerate(inner):
        shown = []
        for step in group:
            raw = step.instruction()
            where, accounts, data = raw.program_id_index, list(raw.accounts), bytes(raw.data)
            height = step.stack_height()
            if parsed:
                shown.append(partly_decoded(keys, where, accounts, data, height))
            else:
                shown.append(compiled(where, accounts, data, height))
        if shown:
            rows.append({"index": index, "instructions": shown})
    return rows


def simulation(
    done: Execution,
    with_inner: bool,
    accounts: list[Any] | None,
    replacement: dict[str, Any] | None,
    token_rows: tuple[Sequence[TokenBalance], Sequence[TokenBalance]],
) -> dict[str, Any]:
    """Return `value` of simulateTransaction. What never reached execution has neither fee nor balances."""
    every = done.keys.all
    ran = done.processed
    before, after = token_rows
    return {
        "accounts": accounts,
        "err": done.err,
        "fee": done.fee_lamports if ran else None,
        "innerInstructions": inner_instructions(done.inner, every, parsed=True) if with_inner else None,
        "loadedAccountsDataSize": wire.loaded_bytes(done),
        "loadedAddresses": loaded_addresses(done.keys),
        "logs": list(done.logs),
        "postBalances": list(wire.lamports(every, done.after)) if ran else None,
        "postTokenBalances": token_balances(after) if ran else None,
        "preBalances": list(wire.lamports(every, done.before)) if ran else None,
        "preTokenBalances": token_balances(before) if ran else None,
        "replacementBlockhash": replacement,
        "returnData": return_data(done.return_data),
        "unitsConsumed": done.units_consumed,
    }


def status(err: Any) -> dict[str, Any]:
    return {"Ok": None} if err is None else {"Err": err}


def landed_transaction(landed: LandedTransaction, encoding: str, max_version: int | None) -> dict[str, Any]:
    """Return `getTransaction`; -32015 if the client did not say that it can read this version."""
    where = {
        "blockTime": landed.time_ms // 1000,
        "slot": landed.slot,
        "transactionIndex": landed.position_in_block,
    }
    return where | transaction_with_meta(landed, encoding, max_version)


def transaction_with_meta(
    landed: LandedTransaction, encoding: str, max_version: int | None, accounts_only: bool = False
) -> dict[str, Any]:
    """Return a transaction as a block lists it."""
    tx = landed.transaction
    legacy = not hasattr(tx.message, "address_table_lookups")
    if not legacy and max_version is None:
        message = (
            "Transaction version (0) is not supported by the requesting client. Please try the request again "
            'with the following configuration parameter: "maxSupportedTransactionVersion": 0'
        )
        raise RpcError(UNSUPPORTED_TRANSACTION_VERSION, message)
    parsed = encoding == "jsonParsed"
    meta: dict[str, Any] = {
        "computeUnitsConsumed": landed.units_consumed,
        "err": landed.err,
        "fee": landed.fee_lamports,
        "innerInstructions": inner_instructions(landed.inner_instructions, landed.keys.all, parsed),
        "logMessages": list(landed.logs),
        "postBalances": list(landed.post_balances),
        "postTokenBalances": token_balances(landed.post_token_balances),
        "preBalances": list(landed.pre_balances),
        "preTokenBalances": token_balances(landed.pre_token_balances),
        "rewards": [],
        "status": status(landed.err),
    }
    if not parsed:
        meta["loadedAddresses"] = loaded_addresses(landed.keys)
    if landed.return_data is not None:
        meta["returnData"] = return_data(landed.return_data)
    if accounts_only:
        names = (
            "err",
            "fee",
            "preBalances",
            "postBalances",
            "preTokenBalances",
            "postTokenBalances",
            "status",
        )
        shown: Any = {
            "accountKeys": _account_keys(landed),
            "signatures": [str(signature) for signature in tx.signatures],
        }
        answer: dict[str, Any] = {"meta": {name: meta[name] for name in names}, "transaction": shown}
    else:
        answer = {"meta": meta, "transaction": _encoded(tx, landed, encoding)}
    if max_version is not None:
        answer["version"] = "legacy" if legacy else 0
    return answer


def _account_keys(landed: LandedTransaction) -> list[dict[str, Any]]:
    keys = landed.keys
    signers = set(keys.static[: keys.signers])
    return [
        {
            "pubkey": str(key),
            "signer": key in signers,
            "source": "transaction" if at < len(keys.static) else "lookupTable",
            "writable": key in keys.writable,
        }
        for at, key in enumerate(keys.all)
    ]


def _encoded(tx: VersionedTransaction, landed: LandedTransaction, encoding: str) -> Any:
    if encoding == "base64":
        return [base64.b64encode(bytes(tx)).decode(), "base64"]
    if encoding == "base58":
        return [b58.encode(bytes(tx)), "base58"]
    if encoding not in ("json", "jsonParsed"):
        raise invalid(f"Invalid params: unknown variant `{encoding}`, expected a transaction encoding.")
    message = tx.message
    keys = landed.keys
    steps = [(step.program_id_index, list(step.accounts), bytes(step.data)) for step in message.instructions]
    shown: dict[str, Any] = {"recentBlockhash": str(message.recent_blockhash)}
    if encoding == "jsonParsed":
        shown["accountKeys"] = _account_keys(landed)
        shown["instructions"] = [partly_decoded(keys.all, *step, 1) for step in steps]
    else:
        header = message.header
        shown["accountKeys"] = [str(key) for key in keys.static]
        shown["header"] = {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        }
        shown["instructions"] = [compiled(*step, 1) for step in steps]
    lookups = getattr(message, "address_table_lookups", None)
    if lookups is not None:
        shown["addressTableLookups"] = [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(lookup.writable_indexes),
                "readonlyIndexes": list(lookup.readonly_indexes),
            }
            for lookup in lookups
        ]
    return {"signatures": [str(signature) for signature in tx.signatures], "message": shown}
