"""How answers of a node become values, errors and outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from evenkeel.errors import NotUnderstood, OperatorError, Retryable
from evenkeel.types import Confirmed, Rejected, Unknown
from venues.asgard.mints import TOKENS
from venues.jsonrpc import RpcError
from venues.solana.answers import AccountInfo
from venues.solana.confirm import Confirmer, Dead, Landed
from venues.solana.failover import FailoverRpc
from venues.solana.rpc import SolanaRpc
from venues.solana.tokens import MINT_BYTES, TOKEN_PROGRAM, check_mints, mint_problem

SECRET_URL = "https://node.example/v1/secret-path?api-key=hush"


class TickClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.ms = 1_757_203_200_000

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with."""


Answer = Callable[[str, list[Any]], Any]


def node(answer: Answer, clock: TickClock | None = None, url: str = SECRET_URL) -> SolanaRpc:
    """A node that answers from a function: a value is a result, an `httpx.Response` is sent as it is."""

    def handle(request: httpx.Request) -> httpx.Response:
        call = json.loads(request.content)
        found = answer(call["method"], call["params"])
        if isinstance(found, httpx.Response):
            return found
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": call["id"], "result": found})

    return SolanaRpc(url, clock or TickClock(), transport=httpx.MockTransport(handle))


def refusal(code: int, message: str = "no", data: Any = None) -> httpx.Response:
    return httpx.Response(
        200, json={"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message, "data": data}}
    )


@pytest.mark.parametrize("code", [-32005, -32429, 429, -32016])
async def test_codes_that_pass_with_time_are_retryable_even_without_data(code: int) -> None:
    calls = []

    def answer(method: str, params: list[Any]) -> Any:
        calls.append(method)
        return refusal(code)

    with pytest.raises(Retryable):
        await node(answer).get_block_height()
    assert len(calls) == 3


async def test_a_read_succeeds_after_an_error_and_other_codes_are_refusals() -> None:
    answers: list[Any] = [httpx.Response(503), httpx.Response(200, text="<html>"), 77]
    assert await node(lambda method, params: answers.pop(0)).get_block_height() == 77
    with pytest.raises(RpcError, match="no such method") as caught:
        await node(lambda method, params: refusal(-32601, "no such method")).get_slot()
    assert caught.value.code == -32601


async def test_an_odd_shape_is_not_understood_and_the_url_never_shows() -> None:
    rpc = node(lambda method, params: {"value": None})
    with pytest.raises(NotUnderstood):
        await rpc.get_latest_blockhash()

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot reach {request.url}")

    dead = SolanaRpc(SECRET_URL, TickClock(), transport=httpx.MockTransport(broken))
    with pytest.raises(Retryable) as caught:
        await dead.get_slot()
    for text in (repr(dead), str(caught.value), repr(caught.value.__cause__)):
        assert "hush" not in text and "secret-path" not in text


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ("5ig", Confirmed),
        (refusal(-32003, "Transaction signature verification failure"), Rejected),
        (refusal(-32602, "base64 encoded solana_transaction too large: 1700 bytes"), Rejected),
        (refusal(-32602, "invalid params"), Unknown),
        (refusal(-32002, "Transaction simulation failed: Blockhash not found"), Unknown),
        (refusal(-32002, "This transaction has already been processed"), Unknown),
        (refusal(-32005, "Node is behind by 42 slots"), Unknown),
        (httpx.Response(500), Unknown),
        (httpx.Response(429), Unknown),
        (httpx.Response(200, text="garbage"), Unknown),
    ],
)
async def test_a_send_is_rejected_only_where_the_bytes_can_never_execute(found: Any, kind: type) -> None:
    assert isinstance(await node(lambda method, params: found).send_transaction(b"x"), kind)


async def test_a_resend_skips_preflight_and_asks_for_no_rebroadcast() -> None:
    seen: list[dict] = []

    def answer(method: str, params: list[Any]) -> Any:
        if method == "sendTransaction":
            seen.append(params[1])
        return "5ig"

    confirmer = Confirmer(node(answer), TickClock())
    await confirmer.send(b"x")
    await confirmer.resend(b"x")
    assert (seen[0]["skipPreflight"], seen[0]["preflightCommitment"]) == (False, "confirmed")
    assert (seen[1]["skipPreflight"], seen[1]["maxRetries"]) == (True, 0)


class Chain:
    """A chain as two numbers and what it remembers of one signature, for each status query in turn."""

    def __init__(self, height: int, statuses: list[Any], slot: int = 1_000, status_slot: int = 1_040) -> None:
        self.height, self.statuses, self.slot, self.status_slot = height, statuses, slot, status_slot
        self.calls: list[tuple[str, Any]] = []
        self.shown: dict[str, Any] | None = None
        """What its ledger has of the transaction."""
        self.listed: list[dict[str, Any]] = []
        """Its list of the wallet's transactions."""

    def __call__(self, method: str, params: list[Any]) -> Any:
        self.calls.append((method, params))
        if method == "getEpochInfo":
            return {"epoch": 3, "absoluteSlot": self.slot, "blockHeight": self.height}
        if method == "getTransaction":
            return self.shown
        if method == "getSignaturesForAddress":
            return self.listed
        assert method == "getSignatureStatuses"
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return {"context": {"slot": self.status_slot}, "value": [status]}


def status(level: str = "confirmed", err: Any = None) -> dict[str, Any]:
    return {"slot": 990, "confirmations": 1, "err": err, "confirmationStatus": level}


async def result(chain: Chain, second: Chain | None = None) -> Any:
    clock = TickClock()
    rpc = node(chain) if second is None else FailoverRpc(node(chain), node(second), clock)
    return await Confirmer(rpc, clock).result_of("5ig", 500, built_at_ms=clock.ms - 60_000)


CUSTOM = {"InstructionError": [0, {"Custom": 1}]}


async def test_landed_with_and_without_error() -> None:
    assert await result(Chain(600, [status()])) == Landed(None, 990, "confirmed")
    for level, is_exit, kind in (
        ("confirmed", False, Unknown),
        ("confirmed", True, Landed),
        ("finalized", False, Landed),
    ):
        chain = Chain(600, [status(level, err=CUSTOM)])
        chain.shown = {"slot": 990, "meta": {"err": CUSTOM}}
        found = await Confirmer(node(chain), TickClock()).result_of("5ig", 500, is_exit=is_exit)
        assert isinstance(found, kind), (level, is_exit, found)


@pytest.mark.parametrize("err", ["a word", {"unheardOf": [1]}, ["a list"], CUSTOM])
async def test_one_source_alone_proves_no_failure(err: Any) -> None:
    """A failure leads to another order: one odd field of one answer must not."""
    chain = Chain(600, [status(err=err)])
    assert isinstance(await result(chain), Unknown)
    chain.shown = {"slot": 990, "meta": {"err": None}}
    assert isinstance(await result(chain), Unknown)
    rpc, clock = node(chain), TickClock()
    chain.listed = [{"signature": "5ig", "slot": 990, "err": None}]
    two_to_one = await Confirmer(rpc, clock, wallet="ours").result_of("5ig", 500)
    assert two_to_one == Landed(None, 990, "confirmed")
    chain.listed = [{"signature": "5ig", "slot": 990, "err": err}]
    failed = await Confirmer(rpc, clock, wallet="ours").result_of("5ig", 500)
    assert isinstance(failed, Landed) and failed.err == err


async def test_a_transaction_that_alone_says_that_it_failed_is_not_believed() -> None:
    chain = Chain(600, [status("processed")])
    chain.shown = {"slot": 990, "meta": {"err": "a word"}}
    assert isinstance(await result(chain), Unknown)


async def test_merely_processed_is_unknown_even_when_it_failed() -> None:
    assert isinstance(await result(Chain(400, [status("processed", err="AccountInUse")])), Unknown)


async def test_dead_needs_every_proof() -> None:
    assert isinstance(await result(Chain(501, [None])), Dead)
    assert isinstance(await result(Chain(500, [None])), Unknown)  # it can still land at that very height
    assert isinstance(await result(Chain(501, [None], slot=1_000, status_slot=999)), Unknown)  # node behind
    assert await result(Chain(501, [None, status()])) == Landed(
        None, 990, "confirmed"
    )  # seen the second time
    assert isinstance(await result(Chain(501, [None]), Chain(480, [None])), Unknown)  # second opinion
    assert isinstance(await result(Chain(501, [None]), Chain(501, [status()])), Landed)
    assert isinstance(await result(Chain(501, [None]), Chain(501, [None])), Dead)


async def test_a_ledger_that_has_it_is_believed_over_a_status_that_does_not() -> None:
    for statuses in ([None], [status("processed")]):
        chain = Chain(501, list(statuses))
        chain.shown = {"slot": 990, "meta": {"err": None}}
        assert await result(chain) == Landed(None, 990, "confirmed")


async def test_the_proof_asks_with_history_after_the_height_at_finalized() -> None:
    chain = Chain(501, [None])
    await result(chain)
    methods = [method for method, _ in chain.calls]
    assert methods == ["getSignatureStatuses", "getEpochInfo", "getSignatureStatuses", "getTransaction"]
    assert chain.calls[1][1] == [{"commitment": "finalized"}]
    assert chain.calls[2][1][1] == {"searchTransactionHistory": True}


async def test_a_node_that_does_not_answer_proves_nothing() -> None:
    confirmer = Confirmer(node(lambda method, params: httpx.Response(503)), TickClock())
    assert isinstance(await confirmer.result_of("5ig", 1), Unknown)


def mint_account(decimals: int, owner: str = TOKEN_PROGRAM, size: int = MINT_BYTES) -> AccountInfo:
    data = bytearray(size)
    data[44:46] = bytes([decimals, 1])
    return AccountInfo(owner, 1, bytes(data))


def test_mints_are_judged_by_the_chain() -> None:
    usdc = TOKENS["USDC"]
    assert mint_problem("USDC", usdc.mint, 6, mint_account(6)) is None
    for bad in (None, mint_account(9), mint_account(6, "TokenzQdB"), mint_account(6, size=165)):
        assert mint_problem("USDC", usdc.mint, 6, bad) is not None


async def test_an_absent_mint_stops_the_start() -> None:
    rpc = node(lambda method, params: {"context": {"slot": 1}, "value": [None]})
    with pytest.raises(OperatorError, match="does not exist"):
        await check_mints(rpc, {"INF": ("5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X6TxNxsi", 9)})
