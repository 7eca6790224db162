"""Rebalances before the twins: each way, by receipts, each step once, forward only; what a person says is proved."""

from __future__ import annotations

from decimal import Decimal

from state.hedging.models import RebalanceState
from tests.databases import database_fixtures
from tests.rebalancing_rig import rebalancing_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal
S = RebalanceState


async def test_shares_become_tokens_in_the_vault(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        rig.fill_vault("AAPL", "100")
        found = await rig.propose()
        [row] = [one for one in found.rebalances if one.scope == "AAPL"]
        assert (row.direction, row.amount, row.state) == ("to-chain", D(450), S.PROPOSED)
        rig.approve(row.name)
        done = await rig.to_the_end(row.name)
        assert (done.state, done.why) == (S.DONE, row.why)
        assert (rig.at_broker("AAPL"), rig.on_chain("AAPL"), rig.on_chain("AAPL", "wallet")) == (550, 550, 0)
        assert [one["kind"] for one in done.done["steps"]] == ["mint", "arrive", "deposit"]
