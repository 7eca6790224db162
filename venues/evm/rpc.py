"""A thin JSON-RPC client for EVM nodes: reads are retried a little, a send is answered in three values."""

from __future__ import annotations

import re
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import NOT_NOW, NotUnderstood, Retryable
from evenkeel.types import Answer, Confirmed, Unknown
from venues.evm.answers import Block, Log, Mined, data, name, whole
from venues.jsonrpc import JsonRpc, Nodes, RpcError, typed
from venues.shared import SharedReads

NAME = "evm node"
LATEST, FINALIZED = "latest", "finalized"
FRESH_MS = 200
NO_METHOD = -32601
LOGS = "eth_getLogs"
MOST_SPAN = 2_000
"""Blocks asked for their logs at once, where a node does not refuse so many."""
_TOO_MUCH = re.compile(
    r"\brange\b(?!.*\bbeyond\b)|more than [\d,]+ results|max results|response size|too many (results|logs|blocks)|too large",
    re.IGNORECASE,
)
"""How providers say with a code of their limits that a range of blocks has too many of them, or too many logs."""
_OF_THE_NODE = re.compile(
    r"(header|block)( \w+)? not found|unknown block|missing trie node|indexing is in progress|state .*available",
    re.IGNORECASE,
)
"""How nodes say that they have not got what the answer depends on: a block, its state, or the index of its transactions."""
KNOWN_WORDS = ("already known", "alreadyknown", "already imported", "known transaction")
"""How nodes say that they hold these bytes: geth, anvil and nitro; nethermind; openethereum; older geth."""


class EvmRpc(JsonRpc):
    """One node."""

    name = NAME
    # Limits, and internal faults that geth and its relatives report for a moment.
    retryable_codes = frozenset({429, -32005, -32016, -32603, -32097})
    of_everybody = frozenset(
        {"eth_chainId", "eth_getBlockByNumber", "eth_getTransactionCount", "eth_getBalance"}
    )
    # Asked at the same moment for many orders; an answer that is a moment old proves no more than it did.
    batched = of_everybody | {"eth_call", "eth_estimateGas", "eth_getCode", LOGS, "eth_getTransactionReceipt"}

    def __init__(self, url: str, clock: Clock, **options: Any) -> None:
        super().__init__(url, clock, **options)
        self.shared = SharedReads(clock, FRESH_MS)
        self.log_span = MOST_SPAN

    def _passes(self, method: str, code: int, message: str) -> bool:
        """What a node says of itself is no answer of the chain: it may say more in a moment, and another node now."""
        if _OF_THE_NODE.search(message) and "revert" not in message.lower():
            return True
        return super()._passes(method, code, message) and not (method == LOGS and _TOO_MUCH.search(message))

    @typed(NAME)
    async def chain_id(self) -> int:
        return whole(await self.read("eth_chainId", []))

    @typed(NAME)
    async def block(self, which: int | str = LATEST) -> Block | None:
        """Return a block by number or tag (`latest`, `safe`, `finalized`); None where this node does not have it."""
        found = await self.read("eth_getBlockByNumber", [_tag(which), False])
        return None if found is None else Block.of(found)

    @typed(NAME)
    async def block_now(self, which: int | str) -> Block | None:
        """Return the same, never an answer that somebody got a moment ago."""
        found = await self._read("eth_getBlockByNumber", [_tag(which), False])
        return None if found is None else Block.of(found)

    async def head(self) -> Block:
        """Return the newest block that this node has. Raises as `read` does."""
        found = await self.block()
        if found is None:
            raise Retryable(f"{NAME} {self.host} has no block yet")
        return found

    @typed(NAME)
    async def transaction_count(self, address: str, which: int | str = LATEST) -> int:
        """Return how many transactions of this sender the chain holds up to that block: the next nonce."""
        return whole(await self.read("eth_getTransactionCount", [address, _tag(which)]))

    @typed(NAME)
    async def balance(self, address: str) -> int:
        """Return wei of an account."""
        return whole(await self.read("eth_getBalance", [address, LATEST]))

    @typed(NAME)
    async def code(self, address: str) -> bytes:
        """Return the code at an address; empty for one that is no contract."""
        return data(await self.read("eth_getCode", [address, LATEST]))

    @typed(NAME)
    async def mined(self, transaction: str) -> Mined | None:
        """Return what became of a transaction, None where this node knows it in no block. Raises NotUnderstood where the answer
        is about another one.
        """
        found = await self.read("eth_getTransactionReceipt", [transaction])
        if found is None:
            return None
        answer = Mined.of(found)
        if answer.hash != transaction:
            raise NotUnderstood(NAME, f"receipt at {self.host}: of another transaction")
        return answer

    @typed(NAME)
    async def view(
        self, to: str, calldata: bytes, which: int | str = LATEST, sender: str | None = None
    ) -> bytes:
        """Return what a call without effect answers. Raises `RpcError` where it would revert, with the revert as its `data`."""
        call = {"to": to, "data": "0x" + calldata.hex()}
        if sender is not None:
            call["from"] = sender
        return data(await self.read("eth_call", [call, _tag(which)]))

    @typed(NAME)
    async def gas_of(self, sender: str, to: str, calldata: bytes) -> int:
        """Return the units of gas that a call would use now. Raises `RpcError` where it would revert."""
        call = {"from": sender, "to": to, "data": "0x" + calldata.hex()}
        return whole(await self.read("eth_estimateGas", [call]))

    @typed(NAME)
    async def logs(
        self, first: int, last: int, addresses: list[str], topics: list[list[str] | None]
    ) -> list[Log]:
        """Return the logs of these contracts from block `first` to `last`, in order. A node that has not come so far may answer
        with none: ask for its height. Raises `RpcError` for a range that is too large: `venues.evm.pages` asks in parts.
        """
        return await self._logs({"fromBlock": hex(first), "toBlock": hex(last)}, addresses, topics)

    @typed(NAME)
    async def logs_of(self, block: Block, addresses: list[str], topics: list[list[str] | None]) -> list[Log]:
        """Return the logs of these contracts in one block, in order. Asked by its hash, so that a node without that block
        refuses, and does not answer with none. Raises Retryable then.
        """
        try:
            found = await self._logs({"blockHash": block.hash}, addresses, topics)
        except RpcError as error:
            if error.is_shut_out or error.code == NO_METHOD:
                raise
            raise Retryable(
                f"{NAME} {self.host} gave no logs of block {block.number}: {error.message}"
            ) from None
        if any(one.block_hash != block.hash or one.block != block.number for one in found):
            raise NotUnderstood(NAME, f"logs of block {block.number} at {self.host}: of another block")
        return found

    async def _logs(
        self, where: dict[str, Any], addresses: list[str], topics: list[list[str] | None]
    ) -> list[Log]:
        """Return logs in order, each once; what a reorganisation removed is no part of the chain."""
        rows = await self.read(LOGS, [where | {"address": addresses, "topics": topics}])
        found = {Log.of(one) for one in rows if not one.get("removed")}
        return sorted(found, key=lambda one: (one.block, one.index))

    async def put(self, raw: bytes) -> Answer[str]:
        """Hand signed bytes to the node. Confirmed(hash): it holds them, which is not yet a block. It is never Rejected:
        bytes that this node refuses may be on their way by another one, and only the chain says that they are dead.
        """
        try:
            return Confirmed(name(await self.call("eth_sendRawTransaction", ["0x" + raw.hex()]), 64))
        except NOT_NOW as error:
            return Unknown(str(error))
        except ValueError:
            return Unknown(f"{NAME} {self.host} took it and answered no hash", answered=True)
        except RpcError as error:
            if any(word in error.message.lower() for word in KNOWN_WORDS):
                return Confirmed("")
            return Unknown(str(error), answered=not error.is_shut_out)


class EvmNodes(Nodes[EvmRpc], EvmRpc):
    """A node made of two. What absence proves is asked of each for itself, by `probe`."""

    async def mined(self, transaction: str) -> Mined | None:
        """Return what became of a transaction as one node shows it: one that does not know it may lag behind the other."""
        found = await super().mined(transaction)
        return found or await self.shown_by_any(lambda node: node.mined(transaction))


def _tag(which: int | str) -> str:
    return hex(which) if isinstance(which, int) else which
