"""What happens between a node's answer and a block: lost, late, or waiting for a halted chain."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from twins.faults import FaultPlan
from twins.solana.blocks import Blocks

VENUE = "solana"
SEND = "rpc:sendTransaction"
_LATE_BLOCKS = 20


@dataclass(frozen=True)
class Waiting:
    """A transaction accepted but not in a block yet; it is due in the block at `height`."""

    height: int
    raw: bytes
    transaction: VersionedTransaction


@dataclass(frozen=True)
class Congestion:
    """What others pay to write to one account. `binding`: what pays less waits for it, and may expire while it does."""

    micro_lamports: int
    binding: bool


class Prices:
    """What others pay per compute unit, for every block (under None) or to write to an account, as it changed."""

    def __init__(self) -> None:
        self._steps: dict[Pubkey | None, list[tuple[int, int]]] = {}

    def set(self, account: Pubkey | None, micro_lamports: int, since_height: int) -> None:
        """From this height on it is so; from 0, it always was."""
        kept = [one for one in self._steps.get(account, []) if one[0] < since_height]
        self._steps[account] = [*kept, (since_height, micro_lamports)]

    def at(self, account: Pubkey | None, height: int) -> int:
        return next((price for since, price in reversed(self._steps.get(account, [])) if since <= height), 0)


class Mempool:
    """Decides when an accepted transaction reaches a leader. `drops_left` of the next ones never do."""

    def __init__(self, faults: FaultPlan, blocks: Blocks) -> None:
        self._faults = faults
        self._blocks = blocks
        self._waiting: list[Waiting] = []
        self.drops_left = 0
        self.late_blocks: list[int] = []

    def lands_now(self, raw: bytes, tx: VersionedTransaction, max_retries: int | None) -> bool:
        """Return True where it lands: in the present block. False: later by `due`, or never."""
        if self.drops_left > 0:
            self.drops_left -= 1
            return False
        if self._faults.take(VENUE, "drop_transaction", SEND):
            return False
        late = self._faults.take(VENUE, "land_late", SEND)
        if late or self.late_blocks:
            blocks = int(late.args.get("blocks", _LATE_BLOCKS)) if late else self.late_blocks.pop(0)
            self.wait(self._blocks.tip + max(1, blocks), raw, tx)
            return False
        if not self._blocks.halted:
            return True
        if max_retries != 0:
            # A node repeats it to the leaders until it expires, so it lands when blocks come again.
            self.wait(self._blocks.tip + 1, raw, tx)
        return False

    def due(self, height: int) -> Waiting | None:
        """Return the next one that is due in a block up to `height`; it no longer waits."""
        if self._waiting and self._waiting[0].height <= height:
            return self._waiting.pop(0)
        return None

    def wait(self, height: int, raw: bytes, tx: VersionedTransaction) -> None:
        self._waiting.append(Waiting(height, raw, tx))
        self._waiting.sort(key=lambda other: other.height)
