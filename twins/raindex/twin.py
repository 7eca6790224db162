"""The door: JSON-RPC as a provider serves it, and what only chains and their nodes do wrong.

Faults beside those of transport, by `FaultPlan` (venue `raindex`, the call is the JSON-RPC method): `lag` (answered by a node
that is `blocks` behind), `removed` (logs that a reorganisation took back are in the answer, marked), `jumbled` (logs twice
and out of order), `too_large` (a range of more than `blocks` is refused, with `code`, `message` and `data` where they are
given), `behind` (a whole request is answered by a node that is `blocks` behind, which gives nothing for a call at a block that
it has not got), `lost` (a transaction is taken and forgotten), `silent_chain` (no block is made while it stands), `no_heads` (a
subscription to new blocks is refused).
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
from starlette.routing import Route, WebSocketRoute

from twins.faults import FaultPlan
from twins.raindex.chain import ScriptedChain, Tags
from twins.raindex.floats import float_of
from twins.raindex.heads import Heads
from twins.raindex.market import BOOK, EXACT, RaindexMarket, Token
from twins.raindex.wallets import WALLET, Reverted, Wallets

VENUE = "raindex"
ETHER, GAS = 10**19, 150_000
"""What every account holds for gas, and what every call uses."""
ERROR = bytes.fromhex("08c379a0")
"""`Error(string)`."""
PARSE, BAD_REQUEST, NOT_FOUND, BAD_PARAMS, SERVER, REVERTED = -32700, -32600, -32601, -32602, -32000, 3


class Refused(Exception):
    """The node's own error: code and message."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


def _selector(text: str) -> bytes:
    return bytes(keccak(text=text)[:4])


class RaindexTwin:
    """A node with one order book on it. `most_blocks`: the largest range of blocks whose logs it gives, None for any."""

    def __init__(self, faults: FaultPlan, market: RaindexMarket, *, most_blocks: int | None = 10_000) -> None:
        self._faults = faults
        self.market = market
        self.chain: ScriptedChain = market.chain
        self.wallets = Wallets(market)
        self.most_blocks = most_blocks
        self.log_times = True
        """Whether logs carry their block's time, as newer nodes write it."""
        self.heads = Heads(faults, market.chain)
        self.app = Starlette(
            routes=[Route("/", self._answer, methods=["POST"]), WebSocketRoute("/", self.heads.socket)]
        )
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
            "eth_getBalance": lambda params, height: hex(ETHER),
            "eth_getTransactionCount": self._count,
            "eth_estimateGas": self._gas,
            "eth_sendRawTransaction": self._send,
        }

    def call_name(self, method: str, path: str, body: bytes) -> str:
        """Return the JSON-RPC method of a request; those of a batch, each once, joined by "+"."""
        try:
            asked = json.loads(body)
        except ValueError:
            return f"{method} {path}"
        calls = asked if isinstance(asked, list) else [asked]
        names = [str(one.get("method")) if isinstance(one, dict) else "?" for one in calls]
        return "+".join(dict.fromkeys(names))

    async def _answer(self, request: Request) -> JSONResponse:
        try:
            asked = json.loads(await request.body())
        except ValueError:
            return JSONResponse(
                {"jsonrpc": "2.0", "id": None, "error": {"code": PARSE, "message": "Parse error"}}
            )
        self._mine()
        calls = asked if isinstance(asked, list) else [asked]
        late = self._faults.take(VENUE, "behind", self.call_name("POST", "/", await request.body()))
        behind = int(late.args.get("blocks", 5)) if late else 0
        answers = [self._one(one, behind) for one in calls]
        return JSONResponse(answers if isinstance(asked, list) else answers[0])

    def _mine(self) -> None:
        """Let the chain stand still while a fault says so; what waits is mined when it goes on."""
        if self._faults.take(VENUE, "silent_chain"):
            if self.chain.stopped_at is None:
                self.chain.stopped_at = self.chain.height()
        else:
            self.chain.stopped_at = None

    def _one(self, asked: Any, behind: int = 0) -> dict[str, Any]:
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
            if lag := self._faults.take(VENUE, "lag", method):
                behind = int(lag.args.get("blocks", 5))
            elif behind and method == "eth_call" and self._is_missing(params, behind):
                return answer | {"result": "0x"}
            return answer | {"result": self._methods[method](params, self.chain.height() - behind)}
        except Refused as why:
            return answer | {"error": why.error}
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, DecodingError) as error:
            return answer | {"error": {"code": BAD_PARAMS, "message": f"invalid argument: {error}"}}

    def _is_missing(self, params: list[Any], behind: int) -> bool:
        return self.chain.number_of(params[1], self.chain.height() - behind) is None

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
            if why := self._faults.take_too_large(VENUE, last - first + 1, self.most_blocks):
                raise Refused(**why)
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
            "status": "0x1" if found.succeeded else "0x0",
            "gasUsed": hex(200_000),
            "effectiveGasPrice": hex(10_000_000),
            "from": found.sender,
            "to": BOOK,
            "logs": rows,
        }

    def _count(self, params: list[Any], height: int) -> str:
        number = self.chain.number_of(params[1], height)
        if number is None:
            raise Refused(SERVER, "header not found")
        return hex(self.chain.count(str(params[0]).lower(), number))

    def _gas(self, params: list[Any], height: int) -> str:
        call = params[0]
        self._would(
            str(call["from"]).lower(), str(call["to"]).lower(), bytes.fromhex(call["data"][2:]), height
        )
        return hex(GAS)

    def _would(self, sender: str, to: str, data: bytes, height: int) -> None:
        try:
            self.wallets.effect(sender, to, data, height)
        except Reverted as why:
            reason = ERROR + encode(("string",), (str(why),))
            raise Refused(REVERTED, f"execution reverted: {why}", "0x" + reason.hex()) from None

    def _send(self, params: list[Any], height: int) -> str:
        raw = bytes.fromhex(params[0][2:])
        if self._faults.take(VENUE, "lost", "eth_sendRawTransaction"):
            return "0x" + keccak(raw).hex()
        try:
            return self.wallets.send(raw)
        except ValueError as why:
            raise Refused(SERVER, str(why)) from None

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
            if selector == _selector("balanceOf(address)"):
                holder = str(decode(("address",), rest)[0])
                return "0x" + encode(("uint256",), (self.wallets.held(holder, token, number),)).hex()
            if selector == _selector("allowance(address,address)"):
                holder, spender = decode(("address", "address"), rest)
                units = self.wallets.allowed(holder, to, number, spender)
                return "0x" + encode(("uint256",), (units,)).hex()
            for name, is_wrap in (("previewDeposit(uint256)", True), ("previewRedeem(uint256)", False)):
                if token.inside and selector == _selector(name):
                    units = decode(("uint256",), rest)[0]
                    given = self.wallets.preview(token, units, number, is_wrap=is_wrap)
                    return "0x" + encode(("uint256",), (given,)).hex()
            if selector == _selector("convertToAssets(uint256)") and token.ratios:
                shares = decode(("uint256",), rest)[0]
                return (
                    "0x"
                    + encode(("uint256",), (int(EXACT.multiply(Decimal(shares), token.ratio(number))),)).hex()
                )
        if token is None and to != BOOK:
            return "0x"
        self._would(str(params[0].get("from", "0x" + "00" * 20)).lower(), to, data, number)
        return "0x"

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
        if op == "wallet":
            owner = str(body.get("owner", self.market.owner)).lower()
            return {"transaction": self.wallets.fund(owner, body["symbol"], Decimal(str(body["tokens"])))}
        if op == "holdings":
            return self._holdings(str(body.get("owner", self.market.owner)).lower())
        if op == "reorganise":
            first = self.chain.reorganise(
                int(body["depth"]),
                drop=bool(body.get("drop", False)),
                drop_only=body.get("drop_only"),
                later=int(body.get("later", 0)),
            )
            return {"first": first}
        if op == "disconnect":
            self.heads.disconnect()
            return {}
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
        if op == "wrap":
            token = self.market.wrap(str(body["symbol"]), self.chain.height() + 1)
            return {"address": token.address, "asset": self.market.tokens[token.inside].address}
        if op == "state":
            return {
                "height": self.chain.height(),
                "orderbook": BOOK,
                "owner": self.market.owner,
                "tokens": {symbol: one.address for symbol, one in self.market.tokens.items()},
            }
        raise ValueError(f"no op {op!r}")

    def _holdings(self, owner: str) -> dict[str, Any]:
        """Return what an owner has now: by symbol, whole tokens in the wallet and in each vault."""
        number, found = self.chain.height(), dict[str, dict[str, str]]()
        for symbol, token in self.market.tokens.items():
            vaults = {
                one.vault for one in self.market.moves if (one.owner, one.token) == (owner, token.address)
            }
            named = {"wallet" if one == WALLET else "0x" + one.hex(): one for one in vaults}
            found[symbol] = {
                name: str(self.market.vault(owner, token.address, vault, number))
                for name, vault in named.items()
            }
        return found


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
