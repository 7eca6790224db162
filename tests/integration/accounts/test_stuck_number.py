"""A number of a key that no block holds: it is offered for more first and soon, and what waits behind it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from evenkeel.types import IntentState
from tasks.accounts.trading import plan_open
from tasks.intents import StillUnknown, carry_out
from tests.accounts_rig import AGENT
from tests.accounts_watch_rig import WatchRig, watch_rig
from twins.evm.node import BASE_FEE_WEI
from venues.evm.sender import STUCK_AFTER_MS
from venues.signers.local import LocalEvmKey

BEHIND = 17
MOST_MS = 10_000


async def stuck(found: WatchRig) -> list[str]:
    """Openings on one key: the last that was asked for has the first number, and was signed while gas was cheap. Return all."""
    core = found.desk.desk
    await found.desk.second.refresh()
    order = found.rig.opening(collateral_usdc="40")
    names = [f"t{n}" for n in range(BEHIND + 1)]
    intents = []
    for n, name in enumerate(names):
        intents.append(plan_open(core, f"d{n % 3}", order, name))
        await core.clock.sleep(0.001)
    spec = core.store.intent(intents[-1]).spec
    built = await core.venue("ostium").build(spec)
    signed = await core.venue("ostium").sign(spec, built)
    core.store.record_ready(intents[-1], built.note, signed.key, lane=signed.lane)  # and its process died
    found.rig.evm.twin.base_fee_wei = 3 * BASE_FEE_WEI
    await found.later(1)
    ends = await asyncio.gather(*(carry_out(core, one, None, wait_s=0) for one in intents[:-1]))
    assert all(isinstance(one, StillUnknown) for one in ends), ends
    return intents


def numbers(found: WatchRig) -> tuple[int, int]:
    """How many numbers of the agent's key the chain has used, and the ledger has given."""
    address = LocalEvmKey.from_hex(AGENT).address
    return found.rig.evm.nonce(address), found.store.lanes.free(f"evm:421614:{address}")


async def test_the_lowest_number_is_offered_for_more_first_and_all_behind_it_land(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        intents = await stuck(found)
        assert numbers(found) == (0, BEHIND + 1)
        began_ms = found.world.now_ms()
        await found.watcher.tick()
        used, given = numbers(found)
        assert used == given > BEHIND + 1  # their stops followed
        [attempt] = found.store.attempts_of(intents[-1])
        node = found.rig.evm.twin.node
        held = [node.rpc("eth_getTransactionReceipt", copy["hash"]) for copy in attempt.key["copies"]]
        [mined] = [one for one in held if one is not None]
        block = node.rpc("eth_getBlockByNumber", mined["blockNumber"], False)
        assert int(block["timestamp"], 16) * 1000 - began_ms < MOST_MS  # not after those that wait behind it
        await found.ticked(3)
        ends = [found.store.intent(one).state for one in intents]
        assert ends == [IntentState.CONFIRMED] * (BEHIND + 1), ends
        assert len(found.store.accounts.open_trades()) == BEHIND + 1
        assert found.alerts() == {}


async def test_a_silent_chain_raises_no_offer_and_one_that_passes_over_does_with_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch_rig(tmp_path, monkeypatch) as found:
        core, evm = found.desk.desk, found.rig.evm
        await found.desk.second.refresh()
        intent = plan_open(core, "d0", found.rig.opening(), "t1")
        evm.fault("silent_chain", times=-1)
        await carry_out(core, intent, None, wait_s=0)
        await found.ticked(3, 30)
        [attempt] = core.store.attempts_of(intent)
        assert len(attempt.key["copies"]) == 1  # dearer bytes would buy nothing
        assert found.alerts() == {("nonce stuck", "agent"): 1}
        evm.faults.clear()
        evm.twin.base_fee_wei = 10**12  # above every cap: no copy of ours is taken
        await found.ticked(2, 30)
        assert found.alerts()["nonce stuck", "agent"] == 1
        evm.twin.base_fee_wei = 3 * BASE_FEE_WEI
        await found.later(STUCK_AFTER_MS / 1000)
        await found.ticked(3, 30)
        [attempt] = core.store.attempts_of(intent)
        assert len(attempt.key["copies"]) > 1
        assert core.store.intent(intent).state is IntentState.CONFIRMED
        assert found.alerts() == {}
