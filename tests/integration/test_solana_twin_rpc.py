"""The Solana twin over HTTP: shapes, error codes and words of a node, batches, statuses, call names."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from solders.compute_budget import set_compute_unit_price
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from tests.chains import SOL, USDC, Bench, bench
from twins.faults import Fault, FaultMiddleware
from twins.solana import b58
from twins.solana.rpc import SolanaTwin


class Node:
    """A raw JSON-RPC client of the twin."""

    def __init__(self, at: Bench) -> None:
        self.at = at
        self.twin = SolanaTwin(at.chain)
        app = FaultMiddleware(self.twin.app, at.faults, "solana", self.twin.call_name, at.world.now_ms)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node")

    async def post(self, body: Any) -> Any:
        return (await self.http.post("/", json=body)).json()

    async def full(self, method: str, *params: Any) -> dict[str, Any]:
        return dict(await self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}))

    async def call(self, method: str, *params: Any) -> Any:
        answer = await self.full(method, *params)
        assert "error" not in answer, answer
        return answer["result"]

    async def error(self, method: str, *params: Any) -> dict[str, Any]:
        answer = await self.full(method, *params)
        assert "result" not in answer, answer
        return dict(answer["error"])

    async def send(self, raw: bytes, **config: Any) -> str:
        text = base64.b64encode(raw).decode()
        config = {"encoding": "base64", "preflightCommitment": "processed", **config}
        return str(await self.call("sendTransaction", text, config))


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node(bench())
    async with made.http:
        yield made


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


async def test_malformed_requests_and_batches(node: Node) -> None:
    assert (await node.http.post("/", content=b"{")).json()["error"] == {
        "code": -32700,
        "message": "Parse error",
    }
    assert (await node.post({"id": 1}))["error"]["code"] == -32600
    assert (await node.post([]))["error"]["code"] == -32600
    assert (await node.error("getNothing"))["code"] == -32601
    assert (await node.error("getBalance"))["code"] == -32602
    assert (await node.error("getBalance", "not a key"))["message"] == "Invalid param: Invalid"
    assert (await node.error("getSlot", {"commitment": "recent"}))["code"] == -32602
    batch = [{"jsonrpc": "2.0", "id": at, "method": name} for at, name in enumerate(["getSlot", "getNope"])]
    slot, refused = await node.post(batch)
    assert (slot["id"], slot["result"]) == (0, node.at.chain.slot("finalized"))
    assert (refused["id"], refused["error"]["code"]) == (1, -32601)
    assert (await node.http.get("/health")).text == "ok"


async def test_calls_have_names_that_faults_match(node: Node) -> None:
    assert node.twin.call_name("POST", "/", b'{"method": "sendTransaction"}') == "rpc:sendTransaction"
    assert node.twin.call_name("POST", "/", b'[{"method": "a"}, {"method": "b"}]') == "rpc:a,b"
    assert node.twin.call_name("POST", "/", b"junk") == "rpc:unparsable"
    node.at.faults.add(Fault("solana", "http_429", "rpc:getSlot"))
    answer = await node.http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": "getSlot"})
    assert answer.status_code == 429
    assert await node.call("getSlot") > 0
    assert [call["call"] for call in node.at.faults.calls] == ["rpc:getSlot", "rpc:getSlot"]


async def test_statuses_move_from_processed_to_finalized_and_then_out_of_the_cache(node: Node) -> None:
    at = node.at
    signature = await node.send(bytes(at.pay(Pubkey.new_unique(), SOL)))

    async def status(history: bool = False) -> Any:
        options = {"searchTransactionHistory": history}
        return (await node.call("getSignatureStatuses", [signature], options))["value"][0]

    first = await status()
    assert (first["confirmationStatus"], first["confirmations"], first["err"]) == ("processed", 0, None)
    assert first["status"] == {"Ok": None}
    assert await node.call("getTransaction", signature, {"commitment": "confirmed"}) is None
    at.pass_blocks(2)
    assert (await status())["confirmationStatus"] == "confirmed"
    at.pass_blocks(30)
    last = await status()
    assert (last["confirmationStatus"], last["confirmations"]) == ("finalized", None)
    at.pass_blocks(300)
    assert await status() is None
    assert (await status(history=True))["confirmationStatus"] == "finalized"
    assert (await node.error("getSignatureStatuses", ["1" * 32]))["code"] == -32602
    assert (await node.error("getSignatureStatuses", [signature] * 257))["message"].endswith("max 256")


async def test_sending_in_both_encodings_and_what_is_refused(node: Node) -> None:
    at = node.at
    raw = bytes(at.pay(Pubkey.new_unique(), SOL))
    assert b58.decode(b58.encode(b"\0\0" + raw)) == b"\0\0" + raw
    signature = await node.call("sendTransaction", b58.encode(raw), {"preflightCommitment": "processed"})
    assert await node.send(raw, skipPreflight=True) == signature
    error = await node.error("sendTransaction", b64(raw), {"encoding": "base64"})
    assert error["message"] == "Transaction simulation failed: Blockhash not found"
    processed = {"encoding": "base64", "preflightCommitment": "processed"}
    error = await node.error("sendTransaction", b64(raw), processed)
    assert (error["code"], error["data"]["err"], error["data"]["logs"]) == (-32002, "AlreadyProcessed", [])
    error = await node.error("sendTransaction", b64(bytes(1_300)), processed)
    assert (
        error["code"] == -32602 and "too large: 1736 bytes (max: encoded/raw 1644/1232)" in error["message"]
    )
    assert (await node.error("sendTransaction", "!!", processed))["message"].startswith(
        "invalid base64 encoding"
    )
    assert (await node.error("sendTransaction", "0OIl"))["message"].startswith("invalid base58 encoding")
    wrong = {"encoding": "hex"}
    assert (await node.error("sendTransaction", b64(raw), wrong))["message"].startswith(
        "unsupported encoding"
    )
    ahead = {**processed, "minContextSlot": at.chain.slot() + 10}
    error = await node.error("sendTransaction", b64(raw), ahead)
    assert error["code"] == -32016 and error["data"] == {"contextSlot": at.chain.slot()}
    at.chain.control("lag", {"slots": 200})
    assert (await node.error("getHealth"))["code"] == -32005


async def test_transaction_shapes_and_the_version_rule(node: Node) -> None:
    at = node.at
    receiver = Pubkey.new_unique()
    tx = at.signed(set_compute_unit_price(1_000), at.transfer(receiver, SOL))
    signature = await node.send(bytes(tx))
    at.pass_blocks(40)
    error = await node.error("getTransaction", signature)
    assert error["code"] == -32015 and '"maxSupportedTransactionVersion": 0' in error["message"]
    version = {"maxSupportedTransactionVersion": 0}
    found = await node.call("getTransaction", signature, version)
    assert found["version"] == 0 and found["transaction"]["message"]["accountKeys"][0] == str(
        at.wallet.pubkey()
    )
    assert found["blockTime"] == at.world.now_ms() // 1000 - 10
    meta = found["meta"]
    assert meta["fee"] == 5_006 and meta["status"] == {"Ok": None} and meta["err"] is None
    assert meta["preBalances"][0] - meta["postBalances"][0] == SOL + 5_006
    raw = await node.call("getTransaction", signature, {**version, "encoding": "base64"})
    assert base64.b64decode(raw["transaction"][0]) == bytes(tx)
    parsed = await node.call("getTransaction", signature, {**version, "encoding": "jsonParsed"})
    assert parsed["transaction"]["message"]["accountKeys"][0]["signer"] is True
    error = await node.error("getTransaction", signature, {**version, "commitment": "processed"})
    assert error["message"] == "Method does not support commitment below `confirmed`"
    listed = await node.call("getSignaturesForAddress", str(receiver))
    assert [row["signature"] for row in listed] == [signature]
    assert await node.call("getSignaturesForAddress", str(receiver), {"before": signature}) == []
    assert await node.call("getSignaturesForAddress", str(receiver), {"until": signature}) == []


async def test_simulation_shows_fee_balances_and_accounts(node: Node) -> None:
    at = node.at
    receiver, wallet = Pubkey.new_unique(), str(at.wallet.pubkey())
    unsigned = at.pay(receiver, SOL)
    unsigned = type(unsigned).populate(unsigned.message, [type(unsigned.signatures[0]).default()])
    config = {
        "encoding": "base64",
        "commitment": "processed",
        "innerInstructions": True,
        "accounts": {"encoding": "base64", "addresses": [wallet, str(receiver)]},
    }
    value = (await node.call("simulateTransaction", b64(bytes(unsigned)), config))["value"]
    assert value["err"] is None and value["fee"] == 5_000 and value["unitsConsumed"] == 150
    assert value["preBalances"][0] - value["postBalances"][0] == SOL + 5_000
    assert [row["lamports"] for row in value["accounts"]] == [99 * SOL - 5_000, SOL]
    assert value["innerInstructions"] == [] and value["replacementBlockhash"] is None
    assert value["loadedAddresses"] == {"writable": [], "readonly": []}
    assert at.chain.lamports(at.wallet.pubkey()) == 100 * SOL
    error = await node.error("simulateTransaction", b64(bytes(unsigned)), {**config, "sigVerify": True})
    assert error["code"] == -32003
    both = {**config, "sigVerify": True, "replaceRecentBlockhash": True}
    assert (
        "may not be used with"
        in (await node.error("simulateTransaction", b64(bytes(unsigned)), both))["message"]
    )
    many = {**config, "accounts": {"addresses": [wallet] * 4}}
    error = await node.error("simulateTransaction", b64(bytes(unsigned)), many)
    assert error["message"] == "Too many accounts provided; max 3"
    at.pass_blocks(200)
    value = (await node.call("simulateTransaction", b64(bytes(unsigned)), config))["value"]
    assert (value["err"], value["fee"], value["accounts"]) == ("BlockhashNotFound", None, [None, None])
    replaced = {**config, "replaceRecentBlockhash": True}
    value = (await node.call("simulateTransaction", b64(bytes(unsigned)), replaced))["value"]
    assert value["err"] is None
    assert value["replacementBlockhash"]["lastValidBlockHeight"] == at.chain.height() + 150


async def test_accounts_in_every_encoding(node: Node) -> None:
    at = node.at
    key = str(at.chain.ata(at.wallet.pubkey(), USDC))
    found = (await node.call("getAccountInfo", key, {"encoding": "jsonParsed"}))["value"]
    assert found["data"]["parsed"]["info"]["tokenAmount"]["uiAmountString"] == "1000"
    cut = {"encoding": "base58", "dataSlice": {"offset": 0, "length": 32}}
    found = (await node.call("getAccountInfo", key, cut))["value"]
    assert found["data"] == [str(USDC), "base58"] and found["space"] == 165
    assert (await node.error("getAccountInfo", key))["code"] == -32600
    mint = (await node.call("getAccountInfo", str(USDC), {"encoding": "jsonParsed"}))["value"]
    assert mint["data"]["parsed"]["info"]["decimals"] == 6
    rows = await node.call("getMultipleAccounts", [key, str(Pubkey.new_unique())])
    assert rows["value"][0]["lamports"] > 0 and rows["value"][1] is None
    assert (await node.error("getMultipleAccounts", [key] * 101))["message"] == (
        "Too many inputs provided; max 100"
    )
    balance = (await node.call("getTokenAccountBalance", key))["value"]
    assert (balance["amount"], balance["uiAmount"]) == ("1000000000", 1000.0)
    nobody = str(Keypair().pubkey())
    assert (await node.error("getTokenAccountBalance", nobody))["message"].endswith("could not find account")
    assert (await node.error("getTokenAccountBalance", str(USDC)))["message"].endswith("not a Token account")
    owner = str(at.wallet.pubkey())
    listed = (await node.call("getTokenAccountsByOwner", owner, {"mint": str(USDC)}, {"encoding": "base64"}))[
        "value"
    ]
    assert [row["pubkey"] for row in listed] == [key]
    missing = {"mint": nobody}
    assert "could not find mint" in (await node.error("getTokenAccountsByOwner", owner, missing))["message"]


async def test_congestion_and_write_locks_raise_the_recent_fees(node: Node) -> None:
    at = node.at
    rows = await node.call("getRecentPrioritizationFees")
    assert len(rows) == 150 and {row["prioritizationFee"] for row in rows} == {0}
    receiver = Pubkey.new_unique()
    await node.send(bytes(at.signed(set_compute_unit_price(77_000), at.transfer(receiver, SOL))))
    slot = at.chain.slot()
    rows = await node.call("getRecentPrioritizationFees", [str(receiver)])
    assert [row for row in rows if row["prioritizationFee"]] == [{"slot": slot, "prioritizationFee": 77_000}]
    at.chain.control("congestion", {"micro_lamports": 100_000})
    prices = [row["prioritizationFee"] for row in await node.call("getRecentPrioritizationFees")]
    assert 80_000 <= min(prices) < max(prices) <= 120_000
    assert (await node.error("getRecentPrioritizationFees", [str(receiver)] * 129))["code"] == -32602


async def test_performance_samples_show_the_slot_time_and_a_halt(node: Node) -> None:
    at = node.at
    at.pass_seconds(180)
    samples = await node.call("getRecentPerformanceSamples", 3)
    assert [row["samplePeriodSecs"] for row in samples] == [60, 60, 60]
    assert all(250 <= row["numSlots"] <= 254 for row in samples)
    assert samples[0]["slot"] > samples[1]["slot"]
    at.chain.control("halt", {})
    at.pass_seconds(120)
    assert [row["numSlots"] for row in await node.call("getRecentPerformanceSamples", 2)] == [0, 0]


async def test_cluster_answers(node: Node) -> None:
    at = node.at
    latest = await node.call("getLatestBlockhash", {"commitment": "confirmed"})
    assert latest["value"]["lastValidBlockHeight"] == at.chain.height("confirmed") + 150
    assert latest["context"]["slot"] == at.chain.slot("confirmed")
    blockhash = latest["value"]["blockhash"]
    assert (await node.call("isBlockhashValid", blockhash, {"commitment": "confirmed"}))["value"] is True
    assert (await node.call("isBlockhashValid", blockhash, {"commitment": "finalized"}))["value"] is False
    assert await node.call("getAgGenesisCert") is None
    epoch = await node.call("getEpochInfo")
    assert epoch["epoch"] == epoch["absoluteSlot"] // 432_000
    assert await node.call("getMinimumBalanceForRentExemption", 165) == 1_855_569
    slots = await node.call("getBlocks", at.chain.slot() - 60, at.chain.slot() - 40)
    assert 19 <= len(slots) <= 20
    skipped = next(slot for slot in range(slots[0], slots[-1]) if slot not in slots)
    assert (await node.error("getBlockTime", skipped))["code"] == -32009
    assert (await node.error("getBlockTime", at.chain.slot() + 1))["code"] == -32004
    tx = at.signed(set_compute_unit_price(10_000), at.transfer(Pubkey.new_unique(), SOL))
    message = b64(bytes(tx)[65:])
    assert (await node.call("getFeeForMessage", message, {"commitment": "processed"}))["value"] == 5_060
    at.pass_blocks(151)
    assert (await node.call("getFeeForMessage", message, {"commitment": "processed"}))["value"] is None
    receiver = Pubkey.new_unique()
    signatures = {await node.call("requestAirdrop", str(receiver), SOL) for _ in range(2)}
    assert len(signatures) == 2 and at.chain.lamports(receiver) == 2 * SOL


async def test_the_operator_gives_money_and_reads_the_ledger(node: Node) -> None:
    at = node.at
    owner = Pubkey.new_unique()
    at.chain.control("airdrop", {"address": str(owner), "sol": "1.5"})
    at.chain.control("set_token", {"owner": str(owner), "mint": str(USDC), "amount": 5_000_000})
    assert (await node.call("getBalance", str(owner)))["value"] == 1_500_000_000
    assert at.chain.token_balance(owner, USDC) == 5_000_000
    signature = await node.send(bytes(at.pay(owner, SOL)))
    rows = at.chain.control("ledger", {})["transactions"]
    assert [(row["signature"], row["err"], row["fee_lamports"]) for row in rows] == [(signature, None, 5_000)]
    assert rows[0]["pre_balances"][0] - rows[0]["post_balances"][0] == SOL + 5_000
    with pytest.raises(ValueError, match="unknown op"):
        at.chain.control("explode", {})
