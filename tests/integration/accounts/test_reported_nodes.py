"""What users of other programs reported of providers, tried on managed accounts: no refused range hides a settlement."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.accounts.models import TradeState
from tasks.accounts.trading import open_trade
from tests.accounts_rig import accounts_rig
from tests.integration.accounts.test_watching import opened_by_hand, ticked
from venues.ostium import venue

MANY = {"blocks": 20, "message": "eth_getLogs is limited to a 20 blocks range"}


async def test_an_order_that_was_asked_for_long_before_is_found_at_a_provider_of_few_blocks(
    tmp_path: Path,
) -> None:
    """rotki/rotki#8875, OffchainLabs/arbitrum-sdk#609: providers give logs of 1,000, 10,000 or fewer blocks at once."""
    async with accounts_rig(tmp_path) as rig:
        opened_by_hand(rig, rig.users[1])
        await ticked(rig)  # the page has the request, and the next one the keeper's word
        rig.evm.fault("too_large", "", times=-1, **MANY)
        rig.settle()
        found = await ticked(rig)
        assert found.settled == 1 and not found.faults and not found.odd
        [trade] = (await rig.desk()).store.accounts.trades()
        assert (trade.state, trade.paid_usdc) == (TradeState.OPEN, 50)


async def test_a_settlement_that_comes_late_is_found_at_a_provider_of_few_blocks(tmp_path: Path) -> None:
    """boundless-xyz/boundless#838: the provider takes 500 blocks, two minutes of Arbitrum's."""
    async with accounts_rig(tmp_path) as rig:
        desk = await rig.desk()
        await open_trade(desk, "d0", rig.opening(), name="t1")
        rig.evm.twin.node.rpc("anvil_mine", hex(100), "0x1")
        rig.evm.fault("too_large", "", times=-1, **MANY)
        rig.settle()
        rig.evm.twin.node.rpc("anvil_mine", hex(100), "0x1")
        await rig.evm.clock.sleep(5)
        await open_trade(await rig.desk(), "d0", rig.opening(), name="t1")
        assert desk.store.accounts.trade("t1").state is TradeState.OPEN


async def test_blocks_that_were_searched_for_the_keepers_word_are_not_searched_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """graphprotocol/graph-node#776: all of a long range is asked for again and again. A keeper that is silent for a day leaves
    345,600 blocks of Arbitrum's.
    """
    monkeypatch.setattr(venue, "AGAIN_BLOCKS", 10)
    async with accounts_rig(tmp_path) as rig:
        desk = await rig.desk()
        await open_trade(desk, "d0", rig.opening(), name="t1")
        rig.evm.twin.node.rpc("anvil_mine", hex(200), "0x1")
        rig.evm.fault("too_large", "", times=-1, **MANY)
        asked = []
        for _ in range(2):
            await rig.evm.clock.sleep(5)
            rig.evm.faults.calls.clear()
            await open_trade(desk, "d0", rig.opening(), name="t1")
            asked.append(rig.evm.calls("eth_getLogs"))
        assert asked[1] < asked[0] / 2, asked
        rig.settle()
        await rig.evm.clock.sleep(5)
        await open_trade(desk, "d0", rig.opening(), name="t1")
        assert desk.store.accounts.trade("t1").state is TradeState.OPEN
