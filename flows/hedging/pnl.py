"""Account for hedged market making: what the spread earned, the picture of it, and how long fills lay open."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prefect import flow
from pydantic import Field

from analytics.hedging.pnl import Pnl
from analytics.hedging.report import as_dict, as_markdown
from flows.forms import Form
from flows.hedging.failing import ACCOUNT, said_if_it_fails
from flows.running import ledger_for_run
from state.store import Store
from tasks.artifacts import show_markdown, show_picture
from tasks.hedging.books import books_of, write_books


class PnlRequest(Form):
    """Where table, page and picture go."""

    out_dir: str | None = Field(
        default=None, description="folder for CSV, page, sums and pictures; empty: none"
    )


async def account_for_hedging(store: Store, out_dir: str | None) -> tuple[Pnl, list[Path]]:
    """Pair every fill and hedge of the ledger anew; files only where a folder is given."""
    found = await asyncio.to_thread(books_of, store)
    files = await asyncio.to_thread(write_books, found, Path(out_dir)) if out_dir else []
    return found, files


@flow(name="hedging-pnl", flow_run_name="hedging-pnl")
async def hedging_pnl(request: PnlRequest) -> dict[str, Any]:
    """The books of hedged market making as JSON, with a markdown artifact and its picture."""
    async with said_if_it_fails(ACCOUNT):
        with ledger_for_run() as store:
            found, files = await account_for_hedging(store, request.out_dir)
    await show_markdown("hedging-pnl", as_markdown(found), "Hedged market making")
    for path in files:
        if path.suffix == ".png":
            await show_picture("hedging-pnl-picture", path, "What was earned, and how long fills lay open")
    return as_dict(found)
