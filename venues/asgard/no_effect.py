"""Proof that what landed changed nothing: it is final, it moved nothing, and the position stands as it stood before.

Such an attempt is dead, so that a new one may be built. Two facts are needed that do not rest on each other: what the
transaction itself shows, and the position's account. Anything short of that stays unknown (docs/exactly-once.md, "Keys and
proofs").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from evenkeel.types import Rejected, Unknown
from venues.solana.answers import AccountInfo
from venues.solana.confirm import Landed
from venues.solana.failover import FailoverRpc
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import EXITS

ABSENT = "absent"


def digest(account: AccountInfo | None) -> str:
    """Return a fingerprint of an account as it stands, short enough for a stored key."""
    if account is None:
        return ABSENT
    return hashlib.sha256(account.owner.encode() + b"|" + account.data).hexdigest()


async def proof_of_no_effect(
    rpc: SolanaRpc, key: dict[str, Any], landed: Sequence[tuple[str, Landed]]
) -> Rejected | Unknown:
    """Return whether transactions that landed without error and moved nothing that we can read are dead by proof.

    `key` is what `sign` stored. An opening needs the word of every node, a way out that of one. Raises `Retryable` or
    `VenueRefused` where the chain cannot be read.
    """
    signature, last = max(landed, key=lambda one: one[1].slot)
    where = f"{signature} landed in slot {last.slot}"
    if any(one.confirmation != "finalized" for _, one in landed):
        return Unknown(f"{where} and moved nothing that can be read; it is not final yet")
    position = key.get("position_pda")
    untouched = True
    for one, _ in landed:
        shown = await _final_records(rpc, one, every=key["op"] not in EXITS)
        if not shown:
            return Unknown(
                f"{where} and moved nothing that can be read; not every node shows it as final yet"
            )
        untouched = untouched and all(_cannot_have_changed(found, position) for found in shown)
    if position is None:
        return _dead(where, "it moved no token") if untouched else Unknown(_unclear(where))
    slot, account = await rpc.get_account_at(position, last.slot)
    if slot >= last.slot and digest(account) == key.get("position_digest"):
        return _dead(where, f"position {position} stands at slot {slot} as it stood before")
    if untouched:
        return _dead(
            where, f"it could not change position {position}: it moved no token or does not write to it"
        )
    return Unknown(_unclear(where))


def _dead(where: str, proof: str) -> Rejected:
    return Rejected(f"{where}, is final, and had no effect: {proof}")


def _unclear(where: str) -> str:
    return f"{where}, but no movement of the position can be read from it"


async def _final_records(rpc: SolanaRpc, signature: str, *, every: bool) -> list[dict[str, Any]]:
    """The transaction as finalized by each node that shows it; nothing unless all do where `every` node is needed."""
    if not isinstance(rpc, FailoverRpc):
        found = await rpc.get_transaction(signature, "finalized")
        return [] if found is None else [found]
    shown = [
        await rpc.probe(node, partial(node.get_transaction, signature, "finalized")) for node in rpc.nodes
    ]
    known = [one for one in shown if one is not None]
    return known if not every or len(known) == len(shown) else []


def _cannot_have_changed(transaction: dict[str, Any], position: str | None) -> bool:
    """Whether a landed transaction moved no token at all, or does not write to the position. False where unreadable."""
    try:
        meta, message = transaction["meta"], transaction["transaction"]["message"]
        before, after = (
            {
                int(row["accountIndex"]): (row["mint"], int(row["uiTokenAmount"]["amount"]))
                for row in meta[name]
            }
            for name in ("preTokenBalances", "postTokenBalances")
        )
        moved = any(
            before.get(index, (None, 0))[1] != after.get(index, (None, 0))[1] for index in before | after
        )
        return not moved or (position is not None and position not in _writable(message, meta))
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _writable(message: dict[str, Any], meta: dict[str, Any]) -> set[str]:
    names = [one["pubkey"] if isinstance(one, dict) else str(one) for one in message["accountKeys"]]
    head = message["header"]
    signing, count = int(head["numRequiredSignatures"]), len(names)
    found = {*names[: signing - int(head["numReadonlySignedAccounts"])]}
    found |= {*names[signing : count - int(head["numReadonlyUnsignedAccounts"])]}
    if message.get("addressTableLookups"):
        found |= set(meta["loadedAddresses"]["writable"])
    return found
