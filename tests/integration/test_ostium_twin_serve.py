"""Ostium's twin as a process of its own: one line of addresses and keys, a clock and faults by the control, an end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_utils import to_checksum_address

from tests.evm_rig import MILLION, OUT, node
from tests.ostium_rig import NO_BUILDER, NOBODY, PRICE, SOL
from twins.evm.interface import Interface
from twins.ostium.deployment import interface


class Outside:
    """A trader who has nothing but the line that was printed."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.line = line
        self.http = httpx.Client(trust_env=False, timeout=60)
        self.account = Account.from_key(line["keys"]["traders"][0]["private_key"])

    def rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self.http.post(self.line["rpc_url"], json=body).json()
        assert "error" not in answer, answer
        return answer["result"]

    def control(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.http.post(f"{self.line['control']['url']}/control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sign_and_send(self, to: str, data: str) -> dict[str, Any]:
        call = {
            "chainId": self.line["chain_id"],
            "nonce": int(self.rpc("eth_getTransactionCount", self.account.address, "latest"), 16),
            "to": to_checksum_address(self.line["contracts"][to]),
            "data": data,
            "value": 0,
            "gas": 2_500_000,
            "maxFeePerGas": 5 * 10**8,
            "maxPriorityFeePerGas": 0,
        }
        signed = self.account.sign_transaction(call)
        sent = self.rpc("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        self.control("clock/advance", {"seconds": 1})
        receipt: dict[str, Any] = self.rpc("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1", receipt
        return receipt


@pytest.fixture
def outside() -> Iterator[Outside]:
    node()  # skips where none can be had
    command = [sys.executable, "-m", "twins.ostium.serve", "--stepped", "--out", str(OUT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Outside(json.loads(process.stdout.readline()))
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_trader_who_knows_the_line_alone_trades_there_and_the_control_ends_it(outside: Outside) -> None:
    outside.control("ostium/pin", {"pair": SOL, "price_usd": 100})
    approve = {"name": "approve", "type": "function", "outputs": []}
    approve["inputs"] = [{"name": "spender", "type": "address"}, {"name": "units", "type": "uint256"}]
    token = Interface([approve])
    storage = outside.line["contracts"]["storage"]
    outside.sign_and_send("usdc", token.call("approve", storage, 100 * MILLION))
    trade = (100 * MILLION, 100 * PRICE, 0, 0, NOBODY, 1_000, SOL, 0, True, False)
    outside.sign_and_send("trading", interface("trading").call("openTrade", trade, NO_BUILDER, 0, 200))
    outside.control("clock/advance", {"seconds": 30})
    query = "{ trades(where: {isOpen: true}) { trader openPrice } }"
    answer = outside.http.post(outside.line["subgraph_url"], json={"query": query}).json()
    assert answer["data"]["trades"] == [
        {"trader": outside.account.address.lower(), "openPrice": str(10_002 * PRICE // 100)}
    ]
    [sol] = [one for one in outside.http.get(outside.line["prices_url"]).json() if one["from"] == "SOL"]
    assert sol["mid"] == 100
    ledger = outside.control("ostium/ledger", {})
    assert list(ledger["open"]) == ["1"] and ledger["waiting"] == []
    assert outside.control("stop", {}) == {"stopping": True}
