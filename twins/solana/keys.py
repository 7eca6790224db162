"""Reads a transaction against the chain: lookup tables resolved, instructions with their accounts."""

from __future__ import annotations

from collections.abc import Sequence

from solders.address_lookup_table_account import AddressLookupTable
from solders.instruction import AccountMeta, Instruction
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from twins.solana import tokens
from twins.solana.ledger import ResolvedKeys

_COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")


class Unresolvable(Exception):
    """A lookup table of the transaction cannot be used; `args[0]` is the transaction error."""


def resolve_keys(svm: LiteSVM, tx: VersionedTransaction) -> ResolvedKeys:
    """Return static keys, each table's writable entries, each table's read-only ones; raises `Unresolvable`."""
    message = tx.message
    static = tuple(message.account_keys)
    writable: list[Pubkey] = []
    readonly: list[Pubkey] = []
    for lookup in getattr(message, "address_table_lookups", ()):
        account = svm.get_account(lookup.account_key)
        if account is None:
            raise Unresolvable("AddressLookupTableNotFound")
        if account.owner != tokens.LOOKUP_TABLE_PROGRAM:
            raise Unresolvable("InvalidAddressLookupTableOwner")
        try:
            entries = AddressLookupTable.deserialize(bytes(account.data)).addresses
        except ValueError as error:
            raise Unresolvable("InvalidAddressLookupTableData") from error
        wanted_writable, wanted_readonly = bytes(lookup.writable_indexes), bytes(lookup.readonly_indexes)
        if max(wanted_writable + wanted_readonly, default=0) >= len(entries):
            raise Unresolvable("InvalidAddressLookupTableIndex")
        writable += [entries[index] for index in wanted_writable]
        readonly += [entries[index] for index in wanted_readonly]
    header = message.header
    signers = header.num_required_signatures
    last_unsigned_writable = len(static) - header.num_readonly_unsigned_accounts
    can_write = set(static[: signers - header.num_readonly_signed_accounts])
    can_write |= set(static[signers:last_unsigned_writable]) | set(writable)
    return ResolvedKeys(static, tuple(writable), tuple(readonly), signers, frozenset(can_write))


def instructions_of(tx: VersionedTransaction, keys: ResolvedKeys) -> tuple[Instruction, ...]:
    every, writable = keys.all, keys.writable
    signers = set(every[: keys.signers])
    return tuple(
        Instruction(
            every[compiled.program_id_index],
            bytes(compiled.data),
            [AccountMeta(every[at], every[at] in signers, every[at] in writable) for at in compiled.accounts],
        )
        for compiled in tx.message.instructions
    )


def price_micro_lamports(instructions: Sequence[Instruction]) -> int:
    """Return the compute unit price that the transaction asks to pay."""
    for instruction in instructions:
        data = bytes(instruction.data)
        if instruction.program_id == _COMPUTE_BUDGET and data[:1] == b"\x03":
            return int.from_bytes(data[1:9], "little")
    return 0
