"""The JSON-RPC node over HTTP and its websocket: dispatch, batches and error objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from twins.solana.chain import SolanaChain
from twins.solana.errors import INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError
from twins.solana.rpc_params import Params
from twins.solana.rpc_reads import Reads
from twins.solana.rpc_transactions import Transactions
from twins.solana.sockets import Sockets

Method = Callable[[Params], Any]


class SolanaTwin:
    """Serves one chain. `app` is the ASGI application, `call_name` names its calls for fault plans."""

    def __init__(self, chain: SolanaChain) -> None:
        self.chain = chain
        reads = Reads(chain)
        sends = Transactions(chain, reads)
        self._methods: dict[str, Method] = {
            "getAccountInfo": reads.get_account_info,
            "getAgGenesisCert": reads.get_ag_genesis_cert,
            "getBalance": reads.get_balance,
            "getBlock": sends.get_block,
            "getBlockHeight": reads.get_block_height,
            "getBlockTime": reads.get_block_time,
            "getBlocks": reads.get_blocks,
            "getEpochInfo": reads.get_epoch_info,
            "getFeeForMessage": sends.get_fee_for_message,
            "getFirstAvailableBlock": reads.get_first_available_block,
            "getGenesisHash": reads.get_genesis_hash,
            "getHealth": reads.get_health,
            "getLatestBlockhash": reads.get_latest_blockhash,
            "getMinimumBalanceForRentExemption": reads.get_minimum_balance_for_rent_exemption,
            "getMultipleAccounts": reads.get_multiple_accounts,
            "getRecentPerformanceSamples": reads.get_recent_performance_samples,
            "getRecentPrioritizationFees": sends.get_recent_prioritization_fees,
            "getSignatureStatuses": sends.get_signature_statuses,
            "getSignaturesForAddress": sends.get_signatures_for_address,
            "getSlot": reads.get_slot,
            "getTokenAccountBalance": reads.get_token_account_balance,
            "getTokenAccountsByOwner": reads.get_token_accounts_by_owner,
            "getTokenSupply": reads.get_token_supply,
            "getTransaction": sends.get_transaction,
            "getVersion": reads.get_version,
            "isBlockhashValid": reads.is_blockhash_valid,
            "requestAirdrop": sends.request_airdrop,
            "sendTransaction": sends.send_transaction,
            "simulateTransaction": sends.simulate_transaction,
        }
        self.sockets = Sockets(chain, reads, sends)
        self.app = Starlette(
            routes=[
                Route("/", self._rpc, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
                WebSocketRoute("/", self.sockets.endpoint),
            ]
        )

    def call_name(self, method: str, path: str, body: bytes) -> str:
        """Return "rpc:sendTransaction"; a batch names all its methods, joined by commas."""
        try:
            calls = json.loads(body)
        except ValueError:
            return f"{method} {path}" if method == "GET" else "rpc:unparsable"
        calls = calls if isinstance(calls, list) else [calls]
        return "rpc:" + ",".join(str(call.get("method")) for call in calls if isinstance(call, dict))

    async def _health(self, request: Request) -> Response:
        try:
            return PlainTextResponse(self._methods["getHealth"](Params([])))
        except RpcError:
            return PlainTextResponse("behind")

    async def _rpc(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ValueError:
            return _json(_refusal(None, RpcError(PARSE_ERROR, "Parse error")))
        if not isinstance(body, list):
            return _json(self._answer(body))
        if not body:
            return _json(_refusal(None, RpcError(INVALID_REQUEST, "Invalid request")))
        return _json([self._answer(call) for call in body])

    def _answer(self, call: Any) -> dict[str, Any]:
        if (
            not isinstance(call, dict)
            or call.get("jsonrpc") != "2.0"
            or not isinstance(call.get("method"), str)
        ):
            return _refusal(None, RpcError(INVALID_REQUEST, "Invalid request"))
        method = self._methods.get(call["method"])
        try:
            if method is None:
                raise RpcError(METHOD_NOT_FOUND, "Method not found")
            with self.chain.lock:
                result = method(Params(call.get("params")))
        except RpcError as error:
            return _refusal(call.get("id"), error)
        return {"jsonrpc": "2.0", "result": result, "id": call.get("id")}


def _refusal(call_id: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": error.as_json(), "id": call_id}


def _json(body: Any) -> Response:
    return Response(json.dumps(body), media_type="application/json")
