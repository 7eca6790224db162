"""The door: JSON-RPC as a provider serves it, blocks by the world's clock, and what only chains do wrong.

Faults beside those of transport, by `FaultPlan`: `lag` (a call is answered by a node that is `blocks` behind), `lost` (a
transaction is taken and forgotten), `silent_chain` (no block is made while it stands), `few_calls` (a request may hold no more
than `most` calls; 1: no batch at all), `large_answers` (only the first `most` answers of a batch fit into one), `too_large`
(logs of a range of more than `blocks` are refused, with `code`, `message` and `data` where they are given).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from twins.evm.node import BASE_FEE_WEI, Node
from twins.faults import FaultPlan
from twins.world import World

VENUE = "evm"
PUBLIC = frozenset(
    {
        "eth_blockNumber", "eth_call", "eth_chainId", "eth_estimateGas", "eth_feeHistory", "eth_gasPrice", "eth_getBalance",
        "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getCode", "eth_getLogs", "eth_getStorageAt",
        "eth_getTransactionByHash", "eth_getTransactionCount", "eth_getTransactionReceipt", "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction", "net_version", "web3_clientVersion",
    }
)  # fmt: skip
"""What a provider lets anybody call."""
MOST_BLOCKS = 600
"""Made at once after a long silence, further apart."""
NOT_FOUND, BAD_REQUEST, TOO_LARGE = -32601, -32600, -32003
BATCH_CALLS = 1_000
"""What geth takes of one request (`--rpc.batch-request-limit`)."""
_AT = {
    "eth_call": 1,
    "eth_getBalance": 1,
    "eth_getCode": 1,
    "eth_getTransactionCount": 1,
    "eth_getBlockByNumber": 0,
}
"""Which parameter says the block."""
_OF_ONE = ("eth_getTransactionReceipt", "eth_getTransactionByHash")


class BlockWorker(Protocol):
    """Who sends transactions of its own at times of the world, such as a venue's keeper."""

    async def before_block(self, at_ms: int, number: int) -> bool:
        """Send what is due in the block of this time and number; return whether anything was sent."""
        ...

    async def after_block(self) -> None:
        """Read the blocks that were made."""
        ...


class EvmTwin:
    """One chain of the world. `block_ms`: world milliseconds between blocks."""

    def __init__(self, world: World, faults: FaultPlan, node: Node, *, block_ms: int = 1_000) -> None:
        self._world = world
        self._faults = faults
        self.block_ms = block_ms
        self.node = node
        self.base_fee_wei = BASE_FEE_WEI
        self.workers: list[BlockWorker] = []
        # Times of blocks are whole seconds: none may lie before what was sent into it.
        self._at_ms = world.now_ms() // block_ms * block_ms
        self.connect()
        self.app = Starlette(routes=[Route("/", self._answer, methods=["POST"])])

    @property
    def chain_id(self) -> int:
        return self.node.chain_id

    def call_name(self, method: str, path: str, body: bytes) -> str:
        """Return the JSON-RPC method of a request; those of a batch, each once, joined by "+"."""
        try:
            asked = json.loads(body)
        except ValueError:
            return f"{method} {path}"
        calls = asked if isinstance(asked, list) else [asked]
        names = [str(one.get("method")) if isinstance(one, dict) else "?" for one in calls]
        return "+".join(dict.fromkeys(names))

    def connect(self) -> None:
        """Take the node up, anew in another event loop or in a process that was forked."""
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)
        self._mining = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the node, which goes on."""
        await self._http.aclose()

    async def ask(self, method: str, *params: Any) -> dict[str, Any]:
        """Return the node's own answer to one call: `result` or `error`."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = await self._http.post(self.node.url, json=body)
        found: dict[str, Any] = answer.json()
        return found

    async def own(self, method: str, *params: Any) -> Any:
        """Return the result of a call of the twin's own. Raises RuntimeError."""
        answer = await self.ask(method, *params)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    async def catch_up(self) -> None:
        """Make the blocks that the world's time asks for. The first holds whatever waits; workers send into those that they
        ask for, and read them.
        """
        async with self._mining:
            due = (self._world.now_ms() - self._at_ms) // self.block_ms
            if due < 1 or self._faults.take(VENUE, "silent_chain"):
                return
            count = min(due, MOST_BLOCKS)
            apart_ms = due * self.block_ms // count
            first_ms, last_ms = self._at_ms + self.block_ms, self._at_ms + due * self.block_ms
            height = int(await self.own("eth_blockNumber"), 16)
            empty = 0
            for n in range(count):
                at_ms = last_ms if n == count - 1 else first_ms + n * apart_ms
                sent = [await one.before_block(at_ms, height + n + 1) for one in self.workers]
                if 0 < n < count - 1 and not any(sent):
                    empty += 1
                    continue
                if empty:
                    await self.own("anvil_mine", hex(empty), hex(apart_ms // 1000))
                    empty = 0
                await self._block(at_ms // 1000)
                for one in self.workers:
                    await one.after_block()
            self._at_ms = last_ms

    async def _block(self, at_s: int) -> None:
        """Make one block, at the fee that the chain asks for: it does not fall while nobody sends anything. Whoever holds the
        node makes blocks too: where one has come since the newest was read, this one is asked for again, behind it.
        """
        await self.own("anvil_setNextBlockBaseFeePerGas", hex(self.base_fee_wei))
        at_s = max(at_s, _time_of(await self.own("eth_getBlockByNumber", "latest", False)))
        refused = (await self.ask("evm_mine", {"timestamp": at_s})).get("error")
        while refused:
            # Without giving way from here on: else who makes blocks in this loop could come in between again and again.
            newest_s = _time_of(self.node.rpc("eth_getBlockByNumber", "latest", False))
            if newest_s <= at_s:
                raise RuntimeError(f"evm_mine: {refused}")
            at_s = newest_s
            try:
                self.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(self.base_fee_wei))
                self.node.rpc("evm_mine", {"timestamp": at_s})
            except RuntimeError as error:
                refused = str(error)
            else:
                return

    async def _answer(self, request: Request) -> JSONResponse:
        try:
            asked = json.loads(await request.body())
        except ValueError:
            return JSONResponse(_error(None, -32700, "Parse error"))
        await self.catch_up()
        if isinstance(asked, list):
            return JSONResponse(await self._batch(asked))
        return JSONResponse(await self._one(asked))

    async def _batch(self, asked: list[Any]) -> Any:
        """Answer a batch as geth does: in order, refused as a whole where it is empty or too long."""
        if not asked:
            return _error(None, BAD_REQUEST, "empty batch")
        few = self._faults.take(VENUE, "few_calls")
        most = int(few.args.get("most", 1)) if few else BATCH_CALLS
        if most == 1 and len(asked) > 1:  # in the words of providers that take none
            return _error(None, BAD_REQUEST, "batch requests are not supported")
        if len(asked) > most:
            first = next((one["id"] for one in asked if isinstance(one, dict) and "id" in one), None)
            return [_error(first, BAD_REQUEST, "batch too large")]
        cut = self._faults.take(VENUE, "large_answers")
        fits = int(cut.args.get("most", 1)) if cut else len(asked)
        answers = await self._several(asked[:fits])
        return answers + [_error(_id(one), TOO_LARGE, "response too large") for one in asked[fits:]]

    async def _several(self, asked: list[Any]) -> list[dict[str, Any]]:
        """Ask the node in one request what needs nothing of ours, and the rest one by one."""
        if any(one.kind in ("lag", "lost", "too_large") and one.times for one in self._faults.faults):
            return [await self._one(one) for one in asked]
        answers: list[dict[str, Any]] = [{} for _ in asked]
        plain = {}
        for n, one in enumerate(asked):
            if (
                isinstance(one, dict)
                and one.get("method") in PUBLIC
                and isinstance(one.get("params", []), list)
            ):
                plain[n] = {
                    "jsonrpc": "2.0",
                    "id": n,
                    "method": one["method"],
                    "params": one.get("params", []),
                }
            else:
                answers[n] = await self._one(one)
        if plain:
            found = (await self._http.post(self.node.url, json=list(plain.values()))).json()
            for row in found:
                answers[row["id"]] = _as_asked(asked[row["id"]], row)
        return answers

    async def _one(self, asked: Any) -> dict[str, Any]:
        if not isinstance(asked, dict) or not isinstance(asked.get("params", []), list):
            return _error(None, BAD_REQUEST, "Invalid request")
        method, params = str(asked.get("method")), list(asked.get("params", []))
        if method not in PUBLIC:
            return _error(asked.get("id"), NOT_FOUND, f"the method {method} does not exist/is not available")
        if method == "eth_sendRawTransaction" and self._faults.take(VENUE, "lost", method):
            answer: dict[str, Any] = {"result": await self._hash_of(params)}
        elif lag := self._faults.take(VENUE, "lag", method):
            answer = await self._behind(method, params, int(lag.args.get("blocks", 5)))
        elif (blocks := _blocks_of(params[0]) if method == "eth_getLogs" else 0) and (
            why := self._faults.take_too_large(VENUE, blocks)
        ):
            answer = {"error": why}
        else:
            answer = await self.ask(method, *params)
        return _as_asked(asked, answer)

    async def _hash_of(self, params: list[Any]) -> str:
        return str(await self.own("web3_sha3", params[0]))

    async def _behind(self, method: str, params: list[Any], blocks: int) -> dict[str, Any]:
        """Answer as a node does that has not seen the last blocks."""
        height = max(0, int(await self.own("eth_blockNumber"), 16) - blocks)
        if method == "eth_blockNumber":
            return {"result": hex(height)}
        if method in _AT and len(params) > _AT[method]:
            which = params[_AT[method]]
            if which in ("latest", "pending"):
                params[_AT[method]] = hex(height)
            elif isinstance(which, str) and which.startswith("0x") and int(which, 16) > height:
                return {"result": None} if method == "eth_getBlockByNumber" else {"error": _UNKNOWN_BLOCK}
        if method == "eth_getLogs" and params:
            wanted = dict(params[0])
            if "blockHash" in wanted:
                found = await self.own("eth_getBlockByHash", wanted["blockHash"], False)
                if found is None or int(found["number"], 16) > height:
                    return {"error": _UNKNOWN_BLOCK}
            if int(str(wanted.get("toBlock", "0x0")), 16) > height:
                wanted["toBlock"] = hex(height)
            if int(str(wanted.get("fromBlock", "0x0")), 16) > height:
                return {"result": []}
            params[0] = wanted
        answer = await self.ask(method, *params)
        result = answer.get("result")
        if method in _OF_ONE and isinstance(result, dict):
            block = result.get("blockNumber")
            return {"result": None} if block is None or int(block, 16) > height else answer
        return answer


def _blocks_of(wanted: dict[str, Any]) -> int:
    """How many blocks' logs are asked for; 0 where the range is not of two numbers."""
    first, last = (str(wanted.get(name, "latest")) for name in ("fromBlock", "toBlock"))
    return int(last, 16) - int(first, 16) + 1 if first.startswith("0x") and last.startswith("0x") else 0


_UNKNOWN_BLOCK = {"code": -32000, "message": "header not found"}


def _time_of(block: dict[str, Any]) -> int:
    """Return the second at which a block was made."""
    return int(block["timestamp"], 16)


def _id(asked: Any) -> Any:
    return asked.get("id") if isinstance(asked, dict) else None


def _as_asked(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked.get("id")} | {
        name: answer[name] for name in ("result", "error") if name in answer
    }


def _error(ident: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": message}}
