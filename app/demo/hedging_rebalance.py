"""The rebalance of the demo: shares that the broker has too many of become tokens in the vault, as a person approves it."""

from __future__ import annotations

from decimal import Decimal

from app.demo.hedging_desks import Instance
from app.demo.hedging_venues import Venues
from evenkeel.errors import OperatorError
from flows.hedging.rebalance import Decision, RebalanceForm, open_rebalancing, rebalance_once
from state.hedging.models import RebalanceState

BY = "the demo's operator"


async def rebalanced(one: Instance, venues: Venues) -> tuple[bool, str]:
    """Propose, approve and carry out. Return whether both sides changed by just what was proposed, and that in words."""
    before = venues.sides(one.symbol)
    async with open_rebalancing(one.settings) as rd:
        proposed = await rebalance_once(rd, RebalanceForm(), BY)
        name = next((each["name"] for each in proposed.rebalances if each["scope"] == one.symbol), None)
        if name is None:
            raise OperatorError(f"nothing was proposed of {one.symbol}: {proposed.holds}")
        await rebalance_once(rd, RebalanceForm(name=name, decision=Decision.APPROVE), BY)
        row = rd.at.desk.store.hedging.rebalance(name)
    after = venues.sides(one.symbol)
    assert row is not None
    moved: tuple[Decimal, Decimal] = (after[0] - before[0], before[1] - after[1])
    text = f"{row.amount.normalize():f} {one.symbol} went from the broker into the vault: {row.state.value.lower()}"
    return row.state is RebalanceState.DONE and moved == (row.amount, row.amount), text
