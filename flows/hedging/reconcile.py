"""Hold the broker's shares and cash and our vaults against the ledger; what differs is reported, and corrected by nobody."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.forms import Form
from flows.hedging.failing import COMPARE, said_if_it_fails
from flows.hedging.opened import open_hedging
from flows.running import desk_for_run
from tasks.artifacts import show_table
from tasks.hedging.reconciling import HedgingReconciled, reconcile_hedging


class HedgingReconcileRequest(Form):
    """Whether to compare only."""

    rebase: bool = Field(
        default=False,
        description="take what is there now as agreed: after shares or dollars were moved by hand",
    )


@flow(name="hedging-reconcile", flow_run_name="hedging-reconcile")
async def hedging_reconcile(request: HedgingReconcileRequest) -> HedgingReconciled:
    """Compare broker and vaults with the ledger, with a table of what differs."""
    async with said_if_it_fails(COMPARE), desk_for_run(open_hedging) as at:
        found = await reconcile_hedging(at, rebase=request.rebase)
    rows = [one.model_dump(mode="json") for one in found.differences]
    await show_table(
        "hedging-reconcile", rows or [{"what": "nothing differs"}], "Broker and vaults against the ledger"
    )
    return found
