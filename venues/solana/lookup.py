"""The chain as a verdict needs it: lookup tables resolved by ourselves, and the accounts that a build names."""

from __future__ import annotations

from collections.abc import Sequence

from solders.address_lookup_table_account import AddressLookupTable
from solders.message import MessageAddressTableLookup, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from venues.solana.answers import AccountInfo
from venues.solana.rpc import SolanaRpc
from venues.solana.view import ChainView, Keys, Violation

LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
NEVER = 2**64 - 1
ACCOUNTS_PER_CALL = 100
TABLE_RULE = "lookup-table"


def lookups_of(tx: VersionedTransaction) -> list[MessageAddressTableLookup]:
    """Return the table look-ups of a message; only a v0 message has any."""
    return list(tx.message.address_table_lookups) if isinstance(tx.message, MessageV0) else []


def tables_of(transactions: Sequence[VersionedTransaction]) -> list[Pubkey]:
    """Return the lookup tables that these transactions name, each once."""
    found = (lookup.account_key for tx in transactions for lookup in lookups_of(tx))
    return list(dict.fromkeys(found))


def table_addresses(key: Pubkey, account: AccountInfo | None) -> list[Pubkey]:
    """Return the entries of a usable table. Raises `Violation` for one that is absent, foreign, deactivated or
    unreadable.
    """
    if account is None:
        raise Violation(TABLE_RULE, f"lookup table {key} does not exist")
    if account.owner != str(LOOKUP_TABLE_PROGRAM):
        raise Violation(
            TABLE_RULE, f"lookup table {key} belongs to {account.owner}, not to the table program"
        )
    try:
        table = AddressLookupTable.deserialize(account.data)
        deactivated, addresses = table.meta.deactivation_slot, list(table.addresses)
    except Exception as error:
        raise Violation(TABLE_RULE, f"lookup table {key} is unreadable: {error}") from None
    if deactivated != NEVER:
        raise Violation(TABLE_RULE, f"lookup table {key} was deactivated in slot {deactivated}")
    return addresses


def resolve(tx: VersionedTransaction, view: ChainView) -> Keys:
    """Return static keys, then each table's writable entries, then each table's read-only ones. Raises `Violation`."""
    message = tx.message
    static = tuple(message.account_keys)
    loaded: dict[bool, list[Pubkey]] = {True: [], False: []}
    for lookup in lookups_of(tx):
        entries = table_addresses(lookup.account_key, view.account(lookup.account_key))
        for is_writable, indexes in ((True, lookup.writable_indexes), (False, lookup.readonly_indexes)):
            for index in bytes(indexes):
                if index >= len(entries):
                    raise Violation(
                        TABLE_RULE,
                        f"index {index} is outside lookup table {lookup.account_key} of {len(entries)} entries",
                    )
                loaded[is_writable].append(entries[index])
    header = message.header
    signing = header.num_required_signatures
    writable = {*static[: signing - header.num_readonly_signed_accounts], *loaded[True]}
    writable.update(static[signing : len(static) - header.num_readonly_unsigned_accounts])
    every = (*static, *loaded[True], *loaded[False])
    if len(set(every)) != len(every):
        raise Violation("keys", "the same account stands in the transaction twice")
    return Keys(
        every, tuple(loaded[True]), tuple(loaded[False]), frozenset(static[:signing]), frozenset(writable)
    )


async def read_view(
    rpc: SolanaRpc,
    transactions: Sequence[VersionedTransaction],
    extra: Sequence[Pubkey],
    sizes: Sequence[int],
) -> ChainView:
    """Return everything that a verdict on these transactions looks at. `extra`: further accounts; `sizes`: rents
    wanted.

    Raises `Retryable` or `RpcError`: a chain that cannot be read approves nothing. A table that cannot be used is left
    for the verdict to refuse.
    """
    tables = tables_of(transactions)
    accounts: dict[Pubkey, AccountInfo | None] = {}
    await _read(rpc, tables, accounts)
    wanted: dict[Pubkey, None] = dict.fromkeys(extra)
    for tx in transactions:
        try:
            wanted.update(dict.fromkeys(resolve(tx, ChainView(accounts)).every))
        except Violation:
            wanted.update(dict.fromkeys(tx.message.account_keys))
    await _read(rpc, [key for key in wanted if key not in accounts], accounts)
    rents = {size: await rpc.get_minimum_balance_for_rent_exemption(size) for size in dict.fromkeys(sizes)}
    return ChainView(accounts, rents)


async def _read(rpc: SolanaRpc, keys: Sequence[Pubkey], into: dict[Pubkey, AccountInfo | None]) -> None:
    for start in range(0, len(keys), ACCOUNTS_PER_CALL):
        chunk = list(keys[start : start + ACCOUNTS_PER_CALL])
        found = await rpc.get_multiple_accounts([str(key) for key in chunk])
        into.update(zip(chunk, found, strict=True))
