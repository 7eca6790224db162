"""The node's websocket: subscriptions to signatures, accounts and slots, and their notifications.

A signature is notified once, when it has reached the commitment that was asked for, also where it had before and its
status is still at hand; then its subscription is over. An account is notified when it changes, a slot when it is there.
Nothing is repeated after a connection is lost, and a node that lags notifies late.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from twins.solana import rpc_params as p
from twins.solana.blocks import COMMITMENTS
from twins.solana.chain import SolanaChain
from twins.solana.errors import INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError
from twins.solana.rpc_params import Params
from twins.solana.rpc_reads import Reads
from twins.solana.rpc_transactions import STATUS_CACHE_SLOTS, Transactions

PUSH_S = 0.05
SLOTS_AT_ONCE = 20
"""Slots of one push; of a longer jump only the last ones are notified."""


@dataclass
class _Subscription:
    """One subscription: `due` returns what is to be notified now; `done` when it has said its last."""

    number: int
    kind: str
    due: Callable[[], list[Any]]
    done: bool = False


@dataclass
class _Client:
    socket: WebSocket
    subscriptions: dict[int, _Subscription] = field(default_factory=dict)


class Sockets:
    """All open sockets of the node. The pusher runs only while there is one.

    The chain's `socket_mode`: "normal"; "silent", where connections stay and nothing is notified; "closed", where they
    end and no new one is accepted; "unsupported", where there are no subscriptions, as with some providers.
    """

    def __init__(self, chain: SolanaChain, reads: Reads, sends: Transactions) -> None:
        self._chain = chain
        self._reads = reads
        self._sends = sends
        self._clients: dict[WebSocket, _Client] = {}
        self._pusher: asyncio.Task[None] | None = None
        self._last_number = 0
        self._subscribe: dict[str, Callable[[Params], _Subscription]] = {
            "signatureSubscribe": self._signature,
            "accountSubscribe": self._account,
            "slotSubscribe": self._slot,
        }

    async def endpoint(self, socket: WebSocket) -> None:
        if self._chain.socket_mode == "closed":
            await socket.close(1012)
            return
        await socket.accept()
        client = self._clients[socket] = _Client(socket)
        if self._pusher is None or self._pusher.done():
            self._pusher = asyncio.create_task(self._push_forever())
        try:
            while True:
                await self._receive(client, await socket.receive_text())
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client went away
        finally:
            self._clients.pop(socket, None)

    async def _receive(self, client: _Client, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            await self._refuse(client, None, RpcError(PARSE_ERROR, "Parse error"))
            return
        for call in message if isinstance(message, list) else [message]:
            await self._call(client, call)

    async def _call(self, client: _Client, call: Any) -> None:
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            await self._refuse(client, None, RpcError(INVALID_REQUEST, "Invalid request"))
            return
        if "id" not in call:
            return  # a notification, such as the ping of web3.js
        method, number = call["method"], call["id"]
        try:
            params = Params(call.get("params"))
            if method.endswith("Unsubscribe"):
                answer: Any = self._unsubscribed(client, method, params)
                new = None
            elif method in self._subscribe and self._chain.socket_mode != "unsupported":
                with self._chain.lock:
                    new = self._subscribe[method](params)
                answer = new.number
            else:
                raise RpcError(METHOD_NOT_FOUND, f"Method '{method}' not found")
        except RpcError as error:
            await self._refuse(client, number, error)
            return
        await client.socket.send_json({"jsonrpc": "2.0", "result": answer, "id": number})
        if new is not None:
            client.subscriptions[new.number] = new

    @staticmethod
    async def _refuse(client: _Client, number: Any, error: RpcError) -> None:
        await client.socket.send_json({"jsonrpc": "2.0", "error": error.as_json(), "id": number})

    def _unsubscribed(self, client: _Client, method: str, params: Params) -> bool:
        number = params.integer(0)
        found = client.subscriptions.get(number)
        if found is None or method != f"{found.kind}Unsubscribe":
            raise p.invalid("Invalid subscription id.")
        del client.subscriptions[number]
        return True

    def _new(self, kind: str, due: Callable[[], list[Any]]) -> _Subscription:
        self._last_number += 1
        return _Subscription(self._last_number, kind, due)

    # What is subscribed to

    def _signature(self, params: Params) -> _Subscription:
        signature, config = p.signature(params.required(0)), params.config(1)
        commitment = p.commitment(config)
        wants_receipt = bool(config.get("enableReceivedNotification"))
        received = False

        def due() -> list[Any]:
            nonlocal received
            landed = self._chain.ledger.get(signature)
            slot = self._chain.blocks.slot()
            oldest = self._chain.blocks.slot("finalized") - STATUS_CACHE_SLOTS
            if landed is None or not oldest <= landed.slot <= slot:
                return []  # what has left the status cache is never notified
            rows: list[Any] = []
            if wants_receipt and not received:
                received = True
                rows.append(self._reads.in_context(slot, "receivedSignature"))
            reached = COMMITMENTS.index(self._sends.reached(landed))
            if reached >= COMMITMENTS.index(commitment):
                slot = self._chain.blocks.slot(commitment)
                rows.append(self._reads.in_context(slot, {"err": landed.err}))
                subscription.done = True
            return rows

        subscription = self._new("signature", due)
        return subscription

    def _account(self, params: Params) -> _Subscription:
        key, config = params.pubkey(0), params.config(1)
        commitment = p.commitment(config)
        last = self._reads.shown(key, commitment, config)

        def due() -> list[Any]:
            nonlocal last
            now = self._reads.shown(key, commitment, config)
            if now == last:
                return []
            last = now
            gone = {"data": ["", "base64"], "executable": False, "lamports": 0}
            empty = gone | {"owner": "1" * 32, "rentEpoch": 0, "space": 0}
            return [self._reads.in_context(self._chain.blocks.slot(commitment), now or empty)]

        return self._new("account", due)

    def _slot(self, params: Params) -> _Subscription:
        last = self._chain.blocks.height()

        def due() -> list[Any]:
            nonlocal last
            blocks = self._chain.blocks
            first, last = max(last + 1, blocks.height() - SLOTS_AT_ONCE + 1), max(last, blocks.height())
            root = blocks.slot("finalized")
            return [
                {"parent": blocks.slot_of(made - 1), "root": root, "slot": blocks.slot_of(made)}
                for made in range(first, last + 1)
            ]

        return self._new("slot", due)

    # Notifications

    async def _push_forever(self) -> None:
        while self._clients:
            for client in list(self._clients.values()):
                if self._chain.socket_mode == "closed":
                    self._clients.pop(client.socket, None)
                    await client.socket.close(1012)
                elif self._chain.socket_mode == "normal":
                    await self._push(client)
            await asyncio.sleep(PUSH_S)

    async def _push(self, client: _Client) -> None:
        for number, subscription in list(client.subscriptions.items()):
            with self._chain.lock:
                self._chain.catch_up()
                rows = subscription.due()
            if subscription.done:
                client.subscriptions.pop(number, None)
            for row in rows:
                params = {"result": row, "subscription": number}
                note = {"jsonrpc": "2.0", "method": f"{subscription.kind}Notification", "params": params}
                try:
                    await client.socket.send_json(note)
                except (WebSocketDisconnect, RuntimeError):
                    self._clients.pop(client.socket, None)
                    return
