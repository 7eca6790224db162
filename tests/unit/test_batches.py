"""Reads that are made at the same moment are one request, and each is answered for itself whatever the node makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from evenkeel.errors import NotUnderstood, Retryable
from tests.unit.test_solana_rpc import TickClock
from venues.batches import MOST_CALLS, together
from venues.evm.rpc import EvmNodes, EvmRpc
from venues.jsonrpc import RpcError
from venues.ratebudget import RateBudget

ADDRESS = "0x" + "11" * 20


def plain(call: dict[str, Any]) -> dict[str, Any]:
    """What an account holds is the last two digits of its address."""
    if call["method"] == "eth_sendRawTransaction":
        return {"result": "0x" + "ab" * 32}
    if call["method"] == "eth_call":
        return {"error": {"code": 3, "message": "execution reverted", "data": "0x1234"}}
    return {"result": hex(int(call["params"][0][-2:], 16))}


@dataclass
class ScriptedNode:
    """A node as its providers differ. `asked`: calls of each request."""

    most: int = 1_000
    fits: int = 1_000
    one: Callable[[dict[str, Any]], dict[str, Any]] = plain
    whole: list[httpx.Response] = field(default_factory=list)
    """What the next requests are answered with, whatever they ask."""
    refusal: Callable[[list[Any]], httpx.Response] | None = None
    asked: list[int] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        calls = body if isinstance(body, list) else [body]
        self.asked.append(len(calls))
        if self.whole:
            return self.whole.pop(0)
        if len(calls) > self.most:
            assert self.refusal is not None
            return self.refusal(calls)
        rows = [{"jsonrpc": "2.0", "id": one["id"], **self.one(one)} for one in calls]
        for row in rows[self.fits :]:
            row.pop("result", None)
            row["error"] = {"code": -32003, "message": "response too large"}
        rows = [row for row in rows if row != {"jsonrpc": "2.0", "id": row["id"]}]
        return httpx.Response(200, json=rows[::-1] if isinstance(body, list) else rows[0])

    def rpc(self, clock: TickClock | None = None, **options: Any) -> EvmRpc:
        return EvmRpc(
            "http://node.example", clock or TickClock(), transport=httpx.MockTransport(self), **options
        )


def account(number: int) -> str:
    return "0x" + f"{number:040x}"


async def balances(rpc: EvmRpc, count: int) -> list[Any]:
    with together():
        return await asyncio.gather(*(rpc.balance(account(n)) for n in range(count)), return_exceptions=True)


async def test_reads_of_one_moment_are_one_request_and_answers_belong_to_their_calls() -> None:
    node = ScriptedNode()
    rpc = node.rpc()
    assert await balances(rpc, 90) == list(range(90)) and node.asked == [90]
    assert await asyncio.gather(*(rpc.balance(account(n)) for n in range(3))) == [0, 1, 2]
    assert node.asked == [90, 1, 1, 1]  # nobody asked for that
    node.asked.clear()
    assert await balances(rpc, 250) == [n % 256 for n in range(250)]
    assert sorted(node.asked) == [50, MOST_CALLS, MOST_CALLS]


async def test_a_call_that_fails_spoils_itself_alone() -> None:
    def odd(call: dict[str, Any]) -> dict[str, Any]:
        return {"result": "many"} if call["params"][0] == account(2) else plain(call)

    rpc = ScriptedNode(one=odd).rpc()
    with together():
        found = await asyncio.gather(
            *(rpc.balance(account(n)) for n in range(4)), rpc.view(ADDRESS, b"\1"), return_exceptions=True
        )
    assert found[:2] == [0, 1] and found[3] == 3
    assert isinstance(found[2], NotUnderstood)
    assert isinstance(found[4], RpcError) and found[4].data == "0x1234"


def as_geth(calls: list[Any]) -> httpx.Response:
    error = {"code": -32600, "message": "batch too large"}
    return httpx.Response(200, json=[{"jsonrpc": "2.0", "id": calls[0]["id"], "error": error}])


def as_a_provider(calls: list[Any]) -> httpx.Response:
    error = {"code": -32600, "message": "batch requests are not supported"}
    return httpx.Response(200, json={"jsonrpc": "2.0", "id": None, "error": error})


def as_a_proxy(calls: list[Any]) -> httpx.Response:
    return httpx.Response(413, text="<html>Request Entity Too Large</html>")


@pytest.mark.parametrize("refusal", [as_geth, as_a_provider, as_a_proxy])
@pytest.mark.parametrize("most", [1, 7])
async def test_a_node_that_takes_fewer_or_none_is_asked_as_it_takes_them(
    most: int, refusal: Callable[[list[Any]], httpx.Response]
) -> None:
    node = ScriptedNode(most=most, refusal=refusal)
    rpc = node.rpc()
    assert await balances(rpc, 60) == list(range(60))
    node.asked.clear()
    assert await balances(rpc, 60) == list(range(60))
    assert max(node.asked) <= most  # it is known by now


async def test_what_did_not_fit_into_an_answer_or_was_left_out_is_asked_again() -> None:
    node = ScriptedNode(fits=5)
    assert await balances(node.rpc(), 16) == list(range(16))
    silent = {account(3)}

    def forgetful(call: dict[str, Any]) -> dict[str, Any]:
        return {} if call["params"][0] in silent and silent.pop() else plain(call)

    node = ScriptedNode(one=forgetful)
    assert await balances(node.rpc(), 8) == list(range(8)) and node.asked == [8, 1]


async def test_a_request_that_fails_as_a_whole_is_tried_again_as_each_of_its_calls_is() -> None:
    node = ScriptedNode(whole=[httpx.Response(503), httpx.Response(429)])
    assert await balances(node.rpc(), 20) == list(range(20)) and node.asked == [20, 20, 20]
    node = ScriptedNode(whole=[httpx.Response(503)] * 3)
    assert all(isinstance(one, Retryable) for one in await balances(node.rpc(), 5))
    node = ScriptedNode(whole=[httpx.Response(401, json={"error": {"code": -32000, "message": "no key"}})])
    found = await balances(node.rpc(), 5)
    assert all(isinstance(one, RpcError) and one.is_shut_out for one in found) and node.asked == [5]


async def test_what_sends_goes_alone_and_each_call_is_weighed() -> None:
    clock, node = TickClock(), ScriptedNode()
    budget = RateBudget(clock, 600)
    rpc = node.rpc(clock, budget=budget)
    with together():
        await asyncio.gather(rpc.put(b"\1"), rpc.balance(account(1)), rpc.balance(account(2)))
    assert sorted(node.asked) == [1, 2] and budget.spent == 3


async def test_where_one_node_is_away_the_other_answers_in_one_request_too() -> None:
    away, other = ScriptedNode(whole=[httpx.Response(502)] * 9), ScriptedNode()
    clock = TickClock()
    rpc = EvmNodes(away.rpc(clock), other.rpc(clock), clock)
    assert await balances(rpc, 30) == list(range(30))
    assert (away.asked, other.asked) == ([30], [30])


async def test_who_waits_for_a_node_that_is_closed_waits_no_longer() -> None:
    rpc = ScriptedNode().rpc()
    asking = asyncio.ensure_future(balances(rpc, 3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await rpc.close()
    assert [type(one) for one in await asking] == [asyncio.CancelledError] * 3
