"""The door of the chain's twin before a real node: a batch is one request, answered as its calls are one by one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from tests.evm_rig import MILLION, PLATFORM, EvmRig, evm_rig
from venues.batches import together
from venues.evm.pulls import BALANCE_OF, TRANSFER_FROM


async def read(rig: EvmRig) -> list[Any]:
    """The dollars of three users, what each has in the chain's coin, and a call that reverts."""
    rpc = rig.rpc()
    refused = TRANSFER_FROM.call(rig.users[0], PLATFORM, MILLION)
    try:
        with together():
            found = await asyncio.gather(
                *(rpc.view(rig.usdc, BALANCE_OF.call(user)) for user in rig.users),
                *(rpc.balance(user) for user in rig.users),
                rpc.view(rig.usdc, refused, sender=rig.users[1]),
                return_exceptions=True,
            )
    finally:
        await rpc.close()
    return [repr(one) if isinstance(one, Exception) else one for one in found]


async def test_a_batch_is_one_request_and_answers_what_its_calls_answer_alone(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig:
        whole = await read(rig)
        assert [call["call"] for call in rig.faults.calls] == ["eth_call+eth_getBalance"]
        assert [int.from_bytes(one) for one in whole[:3]] == [1_000 * MILLION] * 3
        assert "reverted" in whole[-1]
        for kind, most in (("few_calls", 1), ("few_calls", 3), ("large_answers", 2)):
            rig.faults.clear()
            rig.faults.calls.clear()
            rig.fault(kind, times=-1, most=most)
            assert await read(rig) == whole
            assert len(rig.faults.calls) > 1
        rig.faults.clear()
        rig.fault("http_500", "eth_getBalance", times=2)  # it meets the request that holds such a call
        assert await read(rig) == whole


async def test_the_door_refuses_what_geth_refuses_of_a_batch(tmp_path: Path) -> None:
    async with evm_rig(tmp_path) as rig, httpx.AsyncClient(trust_env=False) as http:

        async def said(body: Any) -> Any:
            return (await http.post(rig.urls[0], json=body)).json()

        call = {"jsonrpc": "2.0", "id": 7, "method": "eth_chainId", "params": []}
        assert (await said([]))["error"]["message"] == "empty batch"
        [one] = await said([call] * 1_001)
        assert (one["id"], one["error"]["code"]) == (7, -32600)
        answers = await said([call, {"method": "anvil_mine", "id": 8}, 9])
        assert [answers[0]["result"], answers[1]["error"]["code"], answers[2]["error"]["code"]] == [
            hex(421_614),
            -32601,
            -32600,
        ]
