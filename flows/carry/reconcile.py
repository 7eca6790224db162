"""Hold the books against both venues, and where a venue took a leg, let the other one follow at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prefect import flow

from evenkeel.errors import UNREAD, LostRace, OperatorError
from evenkeel.legs import PositionStatus
from evenkeel.types import Frozen
from flows.carry.rebalance import tick_once
from flows.running import desk_for_run
from tasks.artifacts import show_table
from tasks.carry.books.reconcile import Reconciled, reconcile_everything
from tasks.carry.desk import CarryDesk, named_faults, noted_in, of_each, open_desks
from tasks.carry.watching.wallets import money_is_level


class ReconcileResult(Frozen):
    """What was found, and what was done about positions whose hedge no longer held."""

    found: Reconciled
    actions: dict[str, str]

    @property
    def agrees(self) -> bool:
        """Everything could be read, and nothing is left to a person."""
        left = [one for one in self.found.open if one.position_id not in self.actions]
        return not self.found.unreadable and not left


async def reconcile_and_act(desk: CarryDesk) -> ReconcileResult:
    """Compare, book, alarm; then look at each position of which something was taken, and do what the rules ask for.

    Foreign positions are named and never touched.
    """
    found = await reconcile_everything(desk)
    await money_is_level(desk)
    actions: dict[str, str] = {}
    for position_id in found.to_act_on:
        if desk.store.carry.position(position_id).status is not PositionStatus.OPEN:
            continue  # its closing goes on by itself
        try:
            done = await tick_once(desk, position_id)
            actions[position_id] = f"{done.action}: {done.reason}"
        except (LostRace, *UNREAD, OperatorError) as error:
            actions[position_id] = f"not done yet: {error}"
    return ReconcileResult(found=found, actions=actions)


async def reconcile_accounts(
    desks: Sequence[CarryDesk], faults: dict[str, str] | None = None
) -> ReconcileResult:
    """Compare each account in turn; the answer is of all of them. `faults`: accounts of the fleet that are left out, and why;
    one that cannot be compared is added. Raises what fails at a single account.
    """
    faults = {} if faults is None else faults
    each = [(desk.store.member, one) for desk, one in await of_each(desks, reconcile_and_act, faults)]
    if len(each) == 1 and not faults:
        return each[0][1]
    found = Reconciled(
        rows=sum(one.found.rows for _, one in each),
        findings=tuple(finding for _, one in each for finding in one.found.findings),
        unreadable={
            f"{venue}@{name}": why for name, one in each for venue, why in one.found.unreadable.items()
        }
        | named_faults(faults),
    )
    return ReconcileResult(
        found=found, actions={name: did for _, one in each for name, did in one.actions.items()}
    )


@flow(name="reconcile", flow_run_name="reconcile")
async def reconcile() -> ReconcileResult:
    """Compare the books with both venues' ledgers, and act where a leg was taken."""
    faults: dict[str, str] = {}
    async with desk_for_run(partial(open_desks, without=noted_in(faults))) as desks:
        result = await reconcile_accounts(desks, faults)
    rows = [one.model_dump(mode="json") for one in result.found.findings]
    if rows:
        await show_table("reconcile", rows, "On what books and venues did not agree")
    return result
