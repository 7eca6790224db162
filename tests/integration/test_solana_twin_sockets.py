"""The Solana twin's websocket, message by message, and its blocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.chains import SOL, Bench, bench
from twins.http import served
from twins.solana.rpc import SolanaTwin

WAIT_S = 30


class Line:
    """One websocket and the HTTP side of the same node."""

    def __init__(self, at: Bench, socket: ClientConnection, http: httpx.AsyncClient) -> None:
        self.at, self.socket, self.http = at, socket, http
        self._number = 0

    async def next(self) -> dict[str, Any]:
        return dict(json.loads(await asyncio.wait_for(self.socket.recv(), WAIT_S)))

    async def ask(self, method: str, *params: Any) -> dict[str, Any]:
        self._number += 1
        call = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": list(params)}
        await self.socket.send(json.dumps(call))
        answer = await self.next()
        assert answer.pop("id") == self._number and answer.pop("jsonrpc") == "2.0"
        return answer

    async def post(self, method: str, *params: Any) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return dict((await self.http.post("/", json=call)).json())

    async def quiet(self) -> None:
        """Nothing is notified while the node answers twice over the same line."""
        for _ in range(2):
            assert (await self.ask("nothing"))["error"]["code"] == -32601
            await asyncio.sleep(0.15)


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    at = bench()
    async with (
        served(SolanaTwin(at.chain).app, pair=True) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        host, _, port = url.removeprefix("http://").rpartition(":")
        async with connect(f"ws://{host}:{int(port) + 1}/") as socket:
            yield Line(at, socket, http)


async def test_a_signature_is_notified_once_at_its_commitment() -> None:
    async with line() as on:
        tx = on.at.pay(Pubkey.new_unique(), SOL)
        number = (await on.ask("signatureSubscribe", str(tx.signatures[0]), {"commitment": "confirmed"}))[
            "result"
        ]
        await on.quiet()
        on.at.chain.submit(bytes(tx))
        await on.quiet()
        on.at.pass_blocks(2)
        note = await on.next()
        assert note["method"] == "signatureNotification" and note["params"]["subscription"] == number
        assert note["params"]["result"]["value"] == {"err": None}
        assert note["params"]["result"]["context"]["slot"] >= on.at.chain.slot("confirmed")
        on.at.pass_blocks(40)
        await on.quiet()
        # It is over, so it cannot be ended; and one that is confirmed already is notified at once.
        assert (await on.ask("signatureUnsubscribe", number))["error"][
            "message"
        ] == "Invalid subscription id."
        again = (await on.ask("signatureSubscribe", str(tx.signatures[0])))["result"]
        assert again > number and (await on.next())["params"]["subscription"] == again
        # What has left the status cache is asked for in vain, as clients report of real nodes.
        on.at.pass_blocks(400)
        await on.ask("signatureSubscribe", str(tx.signatures[0]))
        await on.quiet()


async def test_a_failed_transaction_is_notified_with_its_error_and_receipt_first_where_asked() -> None:
    async with line() as on:
        tx = on.at.pay(Pubkey.new_unique(), 10**6 * SOL)
        asked = {"commitment": "confirmed", "enableReceivedNotification": True}
        await on.ask("signatureSubscribe", str(tx.signatures[0]), asked)
        on.at.chain.submit(bytes(tx), skip_preflight=True)
        assert (await on.next())["params"]["result"]["value"] == "receivedSignature"
        on.at.pass_blocks(2)
        err = {"InstructionError": [0, {"Custom": 1}]}
        assert (await on.next())["params"]["result"]["value"] == {"err": err}


async def test_an_account_is_notified_when_it_changes_and_no_more_after_the_end() -> None:
    async with line() as on:
        receiver = Pubkey.new_unique()
        asked = {"commitment": "confirmed", "encoding": "base64"}
        number = (await on.ask("accountSubscribe", str(receiver), asked))["result"]
        for total in (1, 2):
            on.at.chain.submit(bytes(on.at.pay(receiver, total * SOL)))
            await on.quiet()
            on.at.pass_blocks(2)
            note = await on.next()
            assert note["method"] == "accountNotification" and note["params"]["subscription"] == number
            value = note["params"]["result"]["value"]
            assert value["lamports"] == (1 if total == 1 else 3) * SOL and value["data"] == ["", "base64"]
        assert (await on.ask("accountUnsubscribe", number))["result"] is True
        on.at.chain.submit(bytes(on.at.pay(receiver, 7 * SOL)))
        on.at.pass_blocks(3)
        await on.quiet()
        assert (await on.ask("slotUnsubscribe", number))["error"]["code"] == -32602


async def test_slots_are_notified_one_by_one_and_a_long_jump_by_its_last() -> None:
    async with line() as on:
        number = (await on.ask("slotSubscribe"))["result"]
        start = on.at.chain.slot()
        on.at.pass_blocks(3)
        rows = [(await on.next())["params"]["result"] for _ in range(3)]
        assert [row["slot"] for row in rows] == sorted({row["slot"] for row in rows}) and rows[0][
            "slot"
        ] > start
        assert all(row["parent"] < row["slot"] and row["root"] < row["parent"] for row in rows)
        on.at.pass_blocks(5_000)
        rows = [(await on.next())["params"]["result"] for _ in range(20)]
        assert rows[-1]["slot"] == on.at.chain.slot()
        assert (await on.ask("slotUnsubscribe", number))["result"] is True


async def test_what_is_no_request_is_refused_and_a_ping_is_let_be() -> None:
    async with line() as on:
        await on.socket.send(json.dumps({"jsonrpc": "2.0", "method": "ping"}))
        await on.socket.send("not json")
        assert (await on.next())["error"]["code"] == -32700
        await on.socket.send(json.dumps([7]))
        assert (await on.next())["error"]["code"] == -32600
        assert (await on.ask("signatureSubscribe", "short"))["error"]["message"] == "Invalid param: WrongSize"
        assert (await on.ask("accountSubscribe"))["error"]["code"] == -32602


async def test_a_node_may_fall_silent_or_close_its_sockets() -> None:
    async with line() as on:
        on.at.chain.control("sockets", {"mode": "silent"})
        await on.ask("slotSubscribe")
        on.at.pass_blocks(3)
        await on.quiet()
        on.at.chain.control("sockets", {"mode": "unsupported"})
        refused = (await on.ask("signatureSubscribe", "1" * 64))["error"]
        assert refused == {"code": -32601, "message": "Method 'signatureSubscribe' not found"}
        on.at.chain.control("sockets", {"mode": "normal"})
        assert (await on.next())["method"] == "slotNotification"
        on.at.chain.control("sockets", {"mode": "closed"})
        with pytest.raises(ConnectionClosed):
            while True:
                await on.next()
        port = int(str(on.http.base_url).rstrip("/").rpartition(":")[2]) + 1
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            async with connect(f"ws://127.0.0.1:{port}/") as socket:
                await asyncio.wait_for(socket.recv(), WAIT_S)
        with pytest.raises(ValueError, match="mode is one of"):
            on.at.chain.control("sockets", {"mode": "odd"})


async def test_a_block_holds_what_landed_in_it_for_as_long_as_the_node_runs() -> None:
    async with line() as on:
        at, friend = on.at, Keypair().pubkey()
        first, second = at.pay(friend, SOL), at.pay(friend, 2 * SOL)
        for tx in (first, second):
            at.chain.submit(bytes(tx))
        landed = at.chain.transaction(first.signatures[0])
        assert landed is not None
        asked = {"maxSupportedTransactionVersion": 0, "commitment": "confirmed"}
        assert (await on.post("getBlock", landed.slot, asked))["error"]["code"] == -32004
        at.pass_blocks(2)
        block = (await on.post("getBlock", landed.slot, asked))["result"]
        assert block["blockHeight"] == landed.height and block["parentSlot"] < landed.slot
        signatures = [row["transaction"]["signatures"][0] for row in block["transactions"]]
        assert signatures == [str(tx.signatures[0]) for tx in (first, second)]
        assert block["transactions"][0]["meta"]["fee"] == 5_000 and block["rewards"] == []
        before = (await on.post("getBlock", block["parentSlot"], asked))["result"]
        assert before["blockhash"] == block["previousBlockhash"] and before["transactions"] == []
        at.pass_blocks(20_000)
        assert (await on.post("getBlock", landed.slot, asked))["result"] == block
        short = {**asked, "transactionDetails": "signatures", "rewards": False}
        found = (await on.post("getBlock", landed.slot, short))["result"]
        assert found["signatures"] == signatures and not {"transactions", "rewards"} & set(found)
        keys = (await on.post("getBlock", landed.slot, {**asked, "transactionDetails": "accounts"}))["result"]
        assert str(friend) in {row["pubkey"] for row in keys["transactions"][0]["transaction"]["accountKeys"]}

        assert (await on.post("getBlock", landed.slot, {"commitment": "confirmed"}))["error"][
            "code"
        ] == -32015
        wrong = {**asked, "commitment": "processed"}
        assert "below `confirmed`" in (await on.post("getBlock", landed.slot, wrong))["error"]["message"]
        oldest = (await on.post("getFirstAvailableBlock"))["result"]
        assert (await on.post("getBlock", landed.slot + 40, asked))["error"]["code"] == -32001
        listed = (await on.post("getBlocks", oldest, oldest + 60, {"commitment": "confirmed"}))["result"]
        skipped = next(slot for slot in range(oldest, oldest + 60) if slot not in listed)
        assert (await on.post("getBlock", skipped, asked))["error"]["code"] == -32009
        assert (await on.post("getBlock", oldest + 1, asked))["result"]["blockhash"]
