"""Heights, slots and the 150-block blockhash window, made from world time for a LiteSVM that has none."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM

COMMITMENTS = ("processed", "confirmed", "finalized")
BLOCKHASH_AGE = 150
"""A blockhash is accepted while at most this many blocks lie on top of its own."""
SLOTS_PER_EPOCH = 432_000
MAX_LAG_SLOTS = 250
MINUTE_MS = 60_000
MAX_SAMPLES = 720
_SAMPLES_AT_START = 60

_BEHIND = {"processed": 0, "confirmed": 2, "finalized": 32}
_WINDOW = 310
_FIRST_SLOT = 435_888_000
_FIRST_HEIGHT = 413_700_000
_BLOCKS_PER_SKIP = 19
"""After this many blocks a leader misses its slot, so slots run ahead of heights."""


class Blocks:
    """One block each `block_ms` of world time unless halted; `lag_blocks`: how far this node is behind."""

    def __init__(self, svm: LiteSVM, now_ms: int, block_ms: int) -> None:
        if block_ms <= 0:
            raise ValueError(f"block_ms must be above 0, got {block_ms}")
        self._svm = svm
        self.block_ms = block_ms
        self.halted = False
        self.lag_blocks = 0
        self.tip = _FIRST_HEIGHT
        self._height_of: dict[Hash, int] = {svm.latest_blockhash(): self.tip}
        self._hash_at: dict[int, Hash] = {self.tip: svm.latest_blockhash()}
        self._kept: set[int] = set()
        self._archive: dict[int, Hash] = {}
        self._anchors: list[tuple[int, int]] = []
        """(height, world time) from which on one block was made each `block_ms`, oldest first."""
        self._anchor(now_ms, self.tip + _WINDOW)
        self.produce(self._anchor_height, now_ms)
        self._minute_ms = now_ms - now_ms % MINUTE_MS
        self.minutes: deque[tuple[int, int]] = deque(maxlen=MAX_SAMPLES + 1)
        """(minute boundary, slot then), oldest first."""
        for back in range(_SAMPLES_AT_START, -1, -1):
            boundary = self._minute_ms - back * MINUTE_MS
            self.minutes.append((boundary, self.slot_of(self._height_at(boundary))))

    def note_minutes(self, now_ms: int) -> None:
        """Remember the slot at each minute that has passed; a halt shows as minutes without slots."""
        newest = now_ms - now_ms % MINUTE_MS
        self._minute_ms = max(self._minute_ms, newest - MAX_SAMPLES * MINUTE_MS)
        while self._minute_ms < newest:
            self._minute_ms += MINUTE_MS
            height = self.tip if self.halted else self._height_at(self._minute_ms)
            self.minutes.append((self._minute_ms, self.slot_of(height)))

    def _height_at(self, ms: int) -> int:
        return self._anchor_height + (ms - self._anchor_ms) // self.block_ms

    def target(self, now_ms: int) -> int:
        """Return the height the chain should have at this time."""
        if self.halted:
            return self.tip
        return max(self.tip, self._height_at(now_ms))

    def time_of(self, height: int) -> int:
        """Return world milliseconds at which a block was or will be produced."""
        after = bisect_right(self._anchors, height, key=lambda one: one[0])
        anchor_height, anchor_ms = self._anchors[max(after - 1, 0)]
        made_ms = anchor_ms + (height - anchor_height) * self.block_ms
        return made_ms if after == len(self._anchors) else min(made_ms, self._anchors[after][1])

    def produce(self, height: int, now_ms: int) -> None:
        """Produce blocks up to `height`. Of a long jump only the last few hundred exist, the rest is counted."""
        if height <= self.tip:
            return
        for made in range(max(self.tip + 1, height - _WINDOW + 1), height + 1):
            self._svm.expire_blockhash()
            blockhash = self._svm.latest_blockhash()
            self._height_of[blockhash] = made
            self._hash_at[made] = blockhash
        self.tip = height
        if len(self._hash_at) > 4 * _WINDOW:
            for old in [made for made in self._hash_at if made <= height - 2 * _WINDOW]:
                blockhash = self._hash_at.pop(old)
                self._height_of.pop(blockhash, None)
                if old in self._kept:
                    self._archive[old] = blockhash
        slot = self.slot_of(height)
        self._svm.warp_to_slot(slot)
        epoch, slots_in = divmod(slot, SLOTS_PER_EPOCH)
        seconds = now_ms // 1000
        epoch_start = seconds - slots_in * self.block_ms // 1000
        self._svm.set_clock(Clock(slot, epoch_start, epoch, epoch + 1, seconds))

    def keep(self, height: int) -> None:
        """Keep a block, and the one before it, for as long as the node runs."""
        self._kept |= {height - 1, height}

    def halt(self) -> None:
        self.halted = True

    def resume(self, now_ms: int) -> None:
        self.halted = False
        self._anchor(now_ms, self.tip)

    def add(self, blocks: int, now_ms: int) -> None:
        """Add that many blocks at once, as if they had been produced in no time."""
        self.produce(self.tip + blocks, now_ms)
        self._anchor(now_ms, self.tip)

    def _anchor(self, now_ms: int, height: int) -> None:
        self._anchor_ms = now_ms
        self._anchor_height = height
        self._anchors.append((height, now_ms))

    @staticmethod
    def slot_of(height: int) -> int:
        made = height - _FIRST_HEIGHT
        return _FIRST_SLOT + made + made // _BLOCKS_PER_SKIP

    @staticmethod
    def height_of_slot(slot: int) -> int | None:
        """Return the height of the block in this slot, None where the slot was skipped."""
        since = slot - _FIRST_SLOT
        made = since - since // (_BLOCKS_PER_SKIP + 1)
        height = _FIRST_HEIGHT + made
        return height if Blocks.slot_of(height) == slot else None

    def height(self, commitment: str = "processed") -> int:
        """Return the height of the newest block this node shows at a commitment."""
        return self.tip - self.lag_blocks - _BEHIND[commitment]

    def slot(self, commitment: str = "processed") -> int:
        return self.slot_of(self.height(commitment))

    def blockhash(self, commitment: str = "processed") -> tuple[Hash, int]:
        """Return (blockhash, lastValidBlockHeight) of the newest block at a commitment."""
        height = self.height(commitment)
        return self._hash_at[height], height + BLOCKHASH_AGE

    def blockhash_at(self, height: int) -> Hash | None:
        """Return the hash of a block that the node still has."""
        return self._hash_at.get(height) or self._archive.get(height)

    @property
    def oldest_slot(self) -> int:
        """The slot from which on the node has every block."""
        return self.slot_of(min(self._hash_at) + 1)

    def accepts(self, blockhash: Hash, height: int) -> bool:
        """Return whether the blockhash is known at `height` and at most 150 blocks old there."""
        own = self._height_of.get(blockhash)
        return own is not None and 0 <= height - own <= BLOCKHASH_AGE

    def last_valid(self, blockhash: Hash) -> int | None:
        own = self._height_of.get(blockhash)
        return None if own is None else own + BLOCKHASH_AGE
