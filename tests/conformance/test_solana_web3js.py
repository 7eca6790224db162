"""The unmodified `@solana/web3.js` confirms transactions over the Solana twin's websocket; needs Node and its packages."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest
from solders.keypair import Keypair

from tests.chains import SOL
from tests.node_packages import FOLDER, node, packages
from tests.worlds import flat_world
from twins.faults import Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.solana import SolanaChain, SolanaTwin

pytestmark = pytest.mark.timeout(900)


async def _run(script: str, *args: str) -> dict[str, Any]:
    environment = {"PATH": os.environ["PATH"], "NODE_FOLDER": str(await asyncio.to_thread(packages))}
    made = await asyncio.create_subprocess_exec(
        node(),
        str(FOLDER / script),
        *args,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await made.communicate()
    assert made.returncode == 0, err.decode()[-2000:]
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.mark.parametrize("named", [False, True], ids=["port-plus-one", "wsEndpoint"])
async def test_web3js_confirms_by_websocket(named: bool) -> None:
    node()
    world, faults = flat_world(speed=2.0, stepped=False), FaultPlan()
    chain = SolanaChain(world, faults)
    payer = Keypair()
    chain.airdrop(payer.pubkey(), 100 * SOL)
    twin = SolanaTwin(chain)
    # Whoever asks for statuses hears of nothing: what is confirmed is confirmed by the socket.
    blind = {"path": "result.value.*", "value": None}
    faults.add(Fault("solana", "field", "rpc:getSignatureStatuses", times=-1, args=blind))
    app = FaultMiddleware(twin.app, faults, "solana", twin.call_name, world.now_ms)
    async with served(app, pair=not named) as url:
        extra = [url.replace("http", "ws")] if named else []
        seen = await _run("confirm.mjs", url, bytes(payer).hex(), *extra)
    landed = [one for one in chain.ledger.by_signature.values() if one.keys.static[0] == payer.pubkey()]
    assert [one.err is None for one in landed] == [True, False]
    assert seen["confirmed"]["err"] is None and seen["confirmed"]["slot"] >= landed[0].slot
    assert seen["again"] is None
    assert seen["finalized"]["err"] is None and seen["finalized"]["slot"] >= landed[0].slot
    assert seen["account"][0] == SOL and seen["account"][1] >= landed[0].slot
    assert seen["failed"] == {"InstructionError": [0, {"Custom": 1}]}
    assert seen["expired"] == "expired"
    assert seen["block"]["holds"] and seen["block"]["parent"] and seen["block"]["height"] <= 0
    assert seen["signatures"] and seen["slots"]["count"] > 5 and seen["slots"]["rising"]
