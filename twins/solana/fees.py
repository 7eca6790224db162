"""What a transaction costs before it runs, and what others pay: the two fee questions a node answers."""

from __future__ import annotations

from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey

from twins.solana.chain import SolanaChain

LAMPORTS_PER_SIGNATURE = 5_000
MAX_COMPUTE_UNITS = 1_400_000
CACHED_BLOCKS = 150
_COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
_BUILTINS = frozenset({Pubkey.default(), _COMPUTE_BUDGET})
_UNITS_BUILTIN = 3_000
_UNITS_OTHER = 200_000


def fee_of(message: Message | MessageV0 | MessageV1) -> int:
    """Return 5,000 lamports a signature plus ceil(price x limit / 1e6); the limit defaults as in SIMD-0170."""
    price = 0
    limit: int | None = None
    default = 0
    for step in message.instructions:
        program_id = message.account_keys[step.program_id_index]
        default += _UNITS_BUILTIN if program_id in _BUILTINS else _UNITS_OTHER
        data = bytes(step.data)
        if program_id == _COMPUTE_BUDGET and data[:1] == b"\x02":
            limit = int.from_bytes(data[1:5], "little")
        elif program_id == _COMPUTE_BUDGET and data[:1] == b"\x03":
            price = int.from_bytes(data[1:9], "little")
    units = min(default if limit is None else limit, MAX_COMPUTE_UNITS)
    return LAMPORTS_PER_SIGNATURE * message.header.num_required_signatures - (-price * units // 1_000_000)


def recent_fees(chain: SolanaChain, accounts: list[Pubkey]) -> list[dict[str, int]]:
    """Return the fee per cached block, oldest first: max(the block's lowest price, highest lowest price over
    `accounts`).

    Prices are micro-lamports per compute unit. The block's lowest is the congestion set by the operator, an account's
    the one set for it, both spread a little from slot to slot, and 0 without one.
    """
    newest = chain.blocks.height()
    oldest_slot = chain.blocks.slot_of(newest - CACHED_BLOCKS + 1)
    lowest: dict[tuple[int, Pubkey], int] = {}
    for landed in chain.ledger.since(oldest_slot):
        for account in landed.keys.writable.intersection(accounts):
            at = (landed.slot, account)
            lowest[at] = min(lowest.get(at, landed.price_micro_lamports), landed.price_micro_lamports)
    rows = []
    for height in range(newest - CACHED_BLOCKS + 1, newest + 1):
        slot = chain.blocks.slot_of(height)
        price = (
            max(chain.prices.at(one, height) for one in (None, *accounts)) * (80 + slot * 7919 % 41) // 100
        )
        paid = [lowest.get((slot, account), 0) for account in accounts]
        rows.append({"slot": slot, "prioritizationFee": max([price, *paid])})
    return rows
