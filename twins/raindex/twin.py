"""The door: JSON-RPC as a provider serves it, and what only chains and their nodes do wrong.

Faults beside those of transport, by `FaultPlan` (venue `raindex`, the call is the JSON-RPC method): `lag` (answered by a node
that is `blocks` behind), `removed` (logs that a reorganisation took back are in the answer, marked), `jumbled` (logs twice
and out of order), `too_large` (a range of more than `blocks` is refused), `silent_chain` (no block is made while it stands).
A method that is refused with -32601 is `one_endpoint` with `how` rpc_error and that `code`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils import keccak
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from twins.faults import FaultPlan
from twins.raindex.chain import ScriptedChain, Tags
from twins.raindex.floats import float_of
from twins.raindex.market import BOOK, EXACT, OWNER, RaindexMarket, Token
from twins.world import World

VENUE = "raindex"
PARSE, BAD_REQUEST, NOT_FOUND, BAD_PARAMS, SERVER, REVERTED = -32700, -32600, -32601, -32602, -32000, 3


class Refused(Exception):
    """The node's own error: code and message."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


def _selector(text: str) -> bytes:
    return bytes(keccak(text=text)[:4])


class RaindexTwin:
    """A node with one order book on it. `most_blocks`: the largest range of blocks whose logs it gives, None for any."""

    def __init__(
        self, world: World, faults: FaultPlan, market: RaindexMarket, *, most_blocks: int | None = 10_000
    ) -> None:
        self._world = world
        self._faults = faults
        self.market = market
        self.chain: ScriptedChain = market.chain
        self.most_blocks = most_blocks
        self.log_times = True
        """Whether logs carry their block's time, as newer nodes write it."""
        self.app = Starlette(routes=[Route("/", self._answer, methods=["POST"])])
        self._methods: dict[str, Callable[[list[Any], int], Any]] = {
            "eth_chainId": lambda params, height: hex(self.chain.chain_id),
            "net_version": lambda params, height: str(self.chain.chain_id),
            "eth_blockNumber": lambda params, height: hex(height),
            "eth_getBlockByNumber": lambda params, height: self._block(
                self.chain.number_of(params[0], height)
            ),
            "eth_getBlockByHash": lambda params, height: self._block(self._by_hash(params[0], height)),
            "eth_getLogs": self._logs,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getCode": lambda params, height: (
                "0x00" if self._token(params[0]) or params[0] == BOOK else "0x"
            ),
            "eth_call": self._call,
        }

    def call_name(self, method: str, path: str, body: bytes) -> str:
        """Return the JSON-RPC method of a request; several of a batch joined by "+"."""
        try:
            asked = json.loads(body)
        except ValueError:
            return f"{method} {path}"
        calls = asked if isinstance(asked, list) else [asked]
        return "+".join(str(one.get("method")) if isinstance(one, dict) else "?" for one in calls)

    async def _answer(self, request: Request) -> JSONResponse:
        try:
            asked = json.loads(await request.body())
        except ValueError:
            return JSONResponse(
                {"jsonrpc": "2.0", "id": None, "error": {"code": PARSE, "message": "Parse error"}}
            )
        self._mine()
        if isinstance(asked, list):
            return JSONResponse([self._one(one) for one in asked])
        return JSONResponse(self._one(asked))

    def _mine(self) -> None:
        """Let the chain stand still while a fault says so; what waits is mined when it goes on."""
        if self._faults.take(VENUE, "silent_chain"):
            if self.chain.stopped_at is None:
                self.chain.stopped_at = self.chain.height()
        else:
            self.chain.stopped_at = None

    def _one(self, asked: Any) -> dict[str, Any]:
        if not isinstance(asked, dict) or not isinstance(asked.get("params", []), list):
            return {
                "jsonrpc": "2.0",
                "id": None,
                "error": {"code": BAD_REQUEST, "message": "Invalid request"},
            }
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.get("id")}
        method, params = str(asked.get("method")), list(asked.get("params", []))
        try:
            if method not in self._methods:
                raise Refused(NOT_FOUND, f"the method {method} does not exist/is not available")
            lag = self._faults.take(VENUE, "lag", method)
            behind = int(lag.args.get("blocks", 5)) if lag else 0
            return answer | {"result": self._methods[method](params, self.chain.height() - behind)}
        except Refused as why:
            return answer | {"error": why.error}
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, DecodingError) as error:
            return answer | {"error": {"code": BAD_PARAMS, "message": f"invalid argument: {error}"}}

    def _by_hash(self, wanted: str, height: int) -> int | None:
        """Return the block of a hash among the newest of a node of this height: older ones are not searched."""
        return next(
            (one for one in range(height, max(-1, height - 2_000), -1) if self.chain.hash(one) == wanted),
            None,
        )

    def _block(self, number: int | None) -> dict[str, Any] | None:
        if number is None:
            return None
        return {
            "number": hex(number),
            "hash": self.chain.hash(number),
            "parentHash": self.chain.hash(number - 1),
            "timestamp": hex(self.chain.at_ms(number) // 1000),
            "baseFeePerGas": hex(10_000_000),
            "gasUsed": "0x0",
            "gasLimit": hex(2**28),
            "miner": "0x" + "00" * 20,
            "transactions": [],
        }

    def _logs(self, params: list[Any], height: int) -> list[dict[str, Any]]:
        wanted = params[0]
        if "blockHash" in wanted:
            number = self._by_hash(wanted["blockHash"], height)
            if number is None:
                raise Refused(SERVER, "unknown block")
            first = last = number
        else:
            first = self._bound(wanted.get("fromBlock", "latest"), height)
            last = self._bound(wanted.get("toBlock", "latest"), height)
            if last < first:
                raise Refused(BAD_PARAMS, "invalid block range params")
            small = self._faults.take(VENUE, "too_large")
            most = int(small.args.get("blocks", 100)) if small else self.most_blocks
            if most is not None and last - first + 1 > most:
                raise Refused(BAD_PARAMS, f"query exceeds max block range {most}")
        # A node that has not come so far answers with what it has, and says nothing of it.
        rows = [row for one in self.chain.numbers(first, min(last, height)) for row in self.chain.rows(one)]
        if self._faults.take(VENUE, "removed", "eth_getLogs"):
            rows += [row | {"removed": True} for row in self.chain.gone]
        found = [row for row in rows if _matches(row, wanted)]
        if self._faults.take(VENUE, "jumbled", "eth_getLogs"):
            found = [*reversed(found), *found[:3]]
        return [self._shown(row) for row in found]

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        return row if self.log_times else {key: row[key] for key in row if key != "blockTimestamp"}

    def _bound(self, tag: str, height: int) -> int:
        if tag.startswith("0x"):
            return int(tag, 16)
        return self.chain.number_of(tag, height) or 0

    def _receipt(self, params: list[Any], height: int) -> dict[str, Any] | None:
        found = self.chain.transaction(params[0])
        number = self.chain.placed.get(params[0])
        if found is None or number is None or number > height:
            return None
        rows = [self._shown(row) for row in self.chain.rows(number) if row["transactionHash"] == found.hash]
        return {
            "transactionHash": found.hash,
            "blockNumber": hex(number),
            "blockHash": self.chain.hash(number),
            "status": "0x1",
            "gasUsed": hex(200_000),
            "effectiveGasPrice": hex(10_000_000),
            "from": found.sender,
            "to": BOOK,
            "logs": rows,
        }

    def _token(self, address: str) -> Token | None:
        return next((one for one in self.market.tokens.values() if one.address == address.lower()), None)

    def _call(self, params: list[Any], height: int) -> str:
        to, data = str(params[0]["to"]).lower(), bytes.fromhex(params[0]["data"][2:])
        number = self.chain.number_of(params[1] if len(params) > 1 else "latest", height)
        if number is None:
            raise Refused(SERVER, "header not found")
        selector, rest, token = data[:4], data[4:], self._token(to)
        if to == BOOK and selector == _selector("vaultBalance2(address,address,bytes32)"):
            owner, of_token, vault = decode(("address", "address", "bytes32"), rest)
            return "0x" + float_of(self.market.vault(owner, of_token, vault, number)).hex()
        if token is not None:
            if selector == _selector("symbol()"):
                says = token.symbol if token.says is None else token.says
                return "0x" + encode(("string",), (says,)).hex()
            if selector == _selector("decimals()"):
                return "0x" + encode(("uint8",), (token.decimals,)).hex()
            if selector == _selector("convertToAssets(uint256)") and token.ratios:
                shares = decode(("uint256",), rest)[0]
                return (
                    "0x"
                    + encode(("uint256",), (int(EXACT.multiply(Decimal(shares), token.ratio(number))),)).hex()
                )
        if token is None and to != BOOK:
            return "0x"
        raise Refused(REVERTED, "execution reverted", "0x")

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Do what a test or the demo asks beside the protocol: see `docs/twins.md`. ValueError for what makes no sense."""
        if op == "ledger":
            return self.market.truth(self.chain.height())
        if op == "trade":
            rows = body.get("trades") or [body]
            return {"transaction": self.market.trade(rows, at_ms=body.get("at_ms"), block=body.get("block"))}
        if op == "script":
            return {"transactions": [self.control("trade", row)["transaction"] for row in body["rows"]]}
        if op == "vault":
            return {"transaction": self.market.move_vault(body["symbol"], Decimal(str(body["tokens"])))}
        if op == "reorganise":
            first = self.chain.reorganise(
                int(body["depth"]),
                drop=bool(body.get("drop", False)),
                drop_only=body.get("drop_only"),
                later=int(body.get("later", 0)),
            )
            return {"first": first}
        if op == "tags":
            self.chain.tags = Tags(**{name: int(value) for name, value in body.items()})
            return {"height": self.chain.height()}
        if op == "token":
            token = self.market.tokens[body["symbol"]]
            token.says = body.get("says", token.says)
            if "ratio" in body:
                since = int(body.get("block", self.chain.height() + 1))
                token.ratios = sorted([*token.ratios, (since, Decimal(str(body["ratio"])))])
            return {"address": token.address}
        if op == "state":
            return {
                "height": self.chain.height(),
                "orderbook": BOOK,
                "owner": OWNER,
                "tokens": {symbol: one.address for symbol, one in self.market.tokens.items()},
            }
        raise ValueError(f"no op {op!r}")


def _matches(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    addresses = wanted.get("address")
    if addresses is not None:
        each = addresses if isinstance(addresses, list) else [addresses]
        if row["address"].lower() not in {one.lower() for one in each}:
            return False
    for place, options in enumerate(wanted.get("topics") or ()):
        if options is None:
            continue
        allowed = options if isinstance(options, list) else [options]
        if place >= len(row["topics"]) or row["topics"][place] not in allowed:
            return False
    return True
