"""A chain of blocks by the world's clock, and the transactions that a script puts into them. It may change its mind."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eth_utils import keccak

from twins.raindex.logs import Said
from twins.world import World


@dataclass(frozen=True)
class Transaction:
    """What one transaction wrote. Its hash stays where a reorganisation puts it into another block."""

    hash: str
    sender: str
    said: tuple[Said, ...]
    succeeded: bool = True


@dataclass(frozen=True)
class Tags:
    """By how many blocks each tag is behind the newest, and by how many the node is behind the world (0: none)."""

    safe: int = 30
    finalized: int = 600
    latest: int = 0


class ScriptedChain:
    """Blocks of `block_ms`, `start_block` at the world's start; those before it exist too. Hashes cost nothing until asked."""

    def __init__(
        self, world: World, *, chain_id: int = 8453, block_ms: int = 2_000, start_block: int = 1_000_000
    ) -> None:
        self._world = world
        self._start_ms = world.now_ms() // block_ms * block_ms
        self._start_block = start_block
        self.chain_id = chain_id
        self.block_ms = block_ms
        self.tags = Tags()
        self.stopped_at: int | None = None
        """The height of a chain that makes no blocks."""
        self._forks: list[tuple[int, int]] = []
        self._reorganisations = 0
        self._sent = 0
        self._blocks: dict[int, list[Transaction]] = {}
        self._numbers: list[int] = []
        self.placed: dict[str, int] = {}
        """Block of each transaction."""
        self.gone: list[dict[str, Any]] = []
        """Rows of logs that a reorganisation took back, as they were."""

    def height(self) -> int:
        """Return the newest block."""
        made = self.number_at(self._world.now_ms()) - self.tags.latest
        return made if self.stopped_at is None else min(made, self.stopped_at)

    def number_at(self, at_ms: int) -> int:
        """Return the block that is the newest at a time of the world."""
        return self._start_block + (at_ms - self._start_ms) // self.block_ms

    def at_ms(self, number: int) -> int:
        """Return when a block is made; a whole second where blocks last whole seconds."""
        return self._start_ms + (number - self._start_block) * self.block_ms

    def number_of(self, tag: str, height: int) -> int | None:
        """Return the block of a tag or a quantity, None where a node of this height has none."""
        if tag in ("latest", "pending"):
            return height
        if tag in ("safe", "finalized"):
            return max(0, height - (self.tags.safe if tag == "safe" else self.tags.finalized))
        number = 0 if tag == "earliest" else int(tag, 16)
        return number if number <= height else None

    def hash(self, number: int) -> str:
        """Return a block's hash: another one after each reorganisation that reached so deep."""
        at = bisect_right(self._forks, number, key=lambda fork: fork[0])
        salt = self._forks[at - 1][1] if at else 0
        return "0x" + keccak(text=f"{self.chain_id}:{number}:{salt}").hex()

    def send(
        self,
        sender: str,
        said: list[Said],
        number: int | None = None,
        *,
        hash_: str | None = None,
        succeeded: bool = True,
    ) -> Transaction:
        """Put a transaction into a block, by default the next one. ValueError where a block before the first is named."""
        place = self.height() + 1 if number is None else number
        if place < 1:
            raise ValueError(f"block {place} is none")
        self._sent += 1
        name = hash_ or "0x" + keccak(text=f"{self.chain_id}:sent:{self._sent}").hex()
        found = Transaction(name, sender, tuple(said), succeeded)
        self._put(found, place)
        return found

    def _put(self, one: Transaction, number: int) -> None:
        if number not in self._blocks:
            self._blocks[number] = []
            insort(self._numbers, number)
        self._blocks[number].append(one)
        self.placed[one.hash] = number

    def reorganise(
        self, depth: int, *, drop: bool = False, drop_only: list[str] | None = None, later: int = 0
    ) -> int:
        """Replace the newest `depth` blocks; return the first that is another one now. Their transactions are mined again in
        the same blocks, or `later` by so many; all of them are lost with `drop`, those of `drop_only` otherwise.
        """
        first = self.height() - depth + 1
        taken = [
            (number, one)
            for number in self._numbers[bisect_left(self._numbers, first) :]
            if number <= self.height()
            for one in self._blocks[number]
        ]
        self.gone += [row for number in {number for number, _ in taken} for row in self.rows(number)]
        self._reorganisations += 1
        self._forks = [*(fork for fork in self._forks if fork[0] < first), (first, self._reorganisations)]
        for number in {number for number, _ in taken}:
            del self._blocks[number]
            self._numbers.remove(number)
        for number, one in taken:
            del self.placed[one.hash]
            if not drop and one.hash not in (drop_only or ()):
                self._put(one, number + later)
        return first

    def numbers(self, first: int, last: int) -> Iterator[int]:
        """Yield blocks of this range that hold anything."""
        yield from self._numbers[bisect_left(self._numbers, first) : bisect_right(self._numbers, last)]

    def transaction(self, hash_: str) -> Transaction | None:
        """Return a transaction that is in a block, or waits for one."""
        number = self.placed.get(hash_)
        return None if number is None else next(one for one in self._blocks[number] if one.hash == hash_)

    def count(self, sender: str, number: int) -> int:
        """Return how many transactions of a sender are in blocks up to this one: his next number."""
        return sum(1 for at in self.numbers(0, number) for one in self._blocks[at] if one.sender == sender)

    def rows(self, number: int) -> list[dict[str, Any]]:
        """Return the logs of a block as a node gives them."""
        found: list[dict[str, Any]] = []
        block_hash, at_s = self.hash(number), hex(self.at_ms(number) // 1000)
        for place, one in enumerate(self._blocks.get(number, ())):
            for said in one.said:
                found.append(
                    {
                        "address": said.address,
                        "topics": list(said.topics),
                        "data": "0x" + said.data.hex(),
                        "blockNumber": hex(number),
                        "blockHash": block_hash,
                        "blockTimestamp": at_s,
                        "transactionHash": one.hash,
                        "transactionIndex": hex(place),
                        "logIndex": hex(len(found)),
                        "removed": False,
                    }
                )
        return found
