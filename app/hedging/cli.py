"""`evenkeel hedging`: fills of our orders on chain, their hedges at a broker, and what the spread between them earned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.hedging import rebalancing
from app.screens import Emit, JsonFlag, decimal_of, out, show_rows

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

SymbolOption = Annotated[str, typer.Option("--symbol", help="Of one symbol; empty: of all.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="The newest so many.")]
SymbolArgument = Annotated[str, typer.Argument(help="A symbol of the settings.")]
SharesArgument = Annotated[str, typer.Argument(help="Shares.")]


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands on the command line."""
    hedging = typer.Typer(
        help="Hedged market making: each fill on chain is hedged once.", no_args_is_help=True
    )
    app.add_typer(hedging, name="hedging")

    def run(doing: Callable[[Settings], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        return asyncio.run(doing(settings()))

    @hedging.command("run")
    def run_(
        once: Annotated[bool, typer.Option("--once", help="One pass, then end.")] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Read fills and hedge them, pass after pass, until it is ended. One process for each broker's account."""
        from app.hedging import actions

        body = run(lambda found: actions.run(found, once=once))
        emit(as_json, body, lambda: _passes(body))

    @hedging.command("status")
    def status(as_json: JsonFlag = False) -> None:
        """What is open of each symbol, since when, and what stands in its way. Needs no key and asks no venue."""
        from app.hedging import actions

        body = actions.status(settings())
        emit(as_json, body, lambda: _status(body))

    @hedging.command("fills")
    def fills(symbol: SymbolOption = "", limit: LimitOption = 20, as_json: JsonFlag = False) -> None:
        """Fills of our orders on chain, the newest last. Needs no key and asks no venue."""
        from app.hedging import actions

        body = actions.fills(settings(), symbol, limit)
        emit(as_json, body, lambda: _rows(body["fills"], FILL_COLUMNS))

    @hedging.command("orders")
    def orders(symbol: SymbolOption = "", limit: LimitOption = 20, as_json: JsonFlag = False) -> None:
        """Hedges at the broker, the newest last, with what is filled of each. Needs no key and asks no venue."""
        from app.hedging import actions

        body = actions.orders(settings(), symbol, limit)
        emit(as_json, body, lambda: _rows(body["orders"], ORDER_COLUMNS))

    @hedging.command("trace")
    def trace(
        key: Annotated[str, typer.Argument(help="A hedge's number, or a fill's transaction.")],
        as_json: JsonFlag = False,
    ) -> None:
        """From a hedge to the fills that it closed, or from a fill to what closed it. Needs no key and asks no venue."""
        from app.hedging import actions

        body = actions.trace(settings(), key)
        emit(as_json, body, lambda: _rows(body["pairs"], PAIR_COLUMNS))

    @hedging.command("backfill")
    def backfill(
        first: Annotated[
            int, typer.Option("--first", min=0, help="The first block, where nothing has been read.")
        ] = 0,
        as_json: JsonFlag = False,
    ) -> None:
        """Read all blocks from where reading stopped up to the cutoff, and order nothing. Twice changes nothing."""
        from app.hedging import actions

        body = run(lambda found: actions.backfill(found, first or None))
        emit(as_json, body, lambda: _backfilled(body))

    @hedging.command("pnl")
    def pnl(
        out_dir: Annotated[
            Path | None,
            typer.Option("--out", help="Folder for table (CSV), page, sums (JSON) and picture; empty: none."),
        ] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """What the spread earned, first in, first out over chain and broker. Needs no key and asks no venue."""
        from app.hedging import actions

        body = actions.pnl(settings(), out_dir)
        emit(as_json, body, lambda: _pnl(body))

    @hedging.command("buy")
    def buy(symbol: SymbolArgument, shares: SharesArgument, as_json: JsonFlag = False) -> None:
        """Order shares at the broker by hand, by the same way as a hedge: it counts as one, and moves the exposure."""
        from app.hedging import actions

        qty = decimal_of("shares", shares)
        body = run(lambda found: actions.order_by_hand(found, symbol, "buy", qty))
        emit(as_json, body, lambda: _rows([body], ORDER_COLUMNS))

    @hedging.command("sell")
    def sell(symbol: SymbolArgument, shares: SharesArgument, as_json: JsonFlag = False) -> None:
        """Sell shares at the broker by hand, by the same way as a hedge: it counts as one, and moves the exposure."""
        from app.hedging import actions

        qty = decimal_of("shares", shares)
        body = run(lambda found: actions.order_by_hand(found, symbol, "sell", qty))
        emit(as_json, body, lambda: _rows([body], ORDER_COLUMNS))

    @hedging.command("choose")
    def choose(
        hedge: Annotated[
            str, typer.Argument(help="The number of an open hedge, as `evenkeel hedging status` has it.")
        ],
        order: Annotated[
            str,
            typer.Argument(help="Which of the broker's orders it is, or none; empty: show which there are."),
        ] = "",
        reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Say which of several orders at the broker a hedge is, where none of them carries a number of ours (Schwab)."""
        from app.hedging import actions

        if not order:
            body = run(lambda found: actions.candidates(found, hedge))
            emit(as_json, body, lambda: _rows(body["orders"], CANDIDATE_COLUMNS))
            return
        body = run(lambda found: actions.choose(found, hedge, order, reason))
        emit(as_json, body, lambda: _rows([body], ORDER_COLUMNS))

    @hedging.command("settle")
    def settle(
        symbol: SymbolArgument,
        reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")] = "",
        usd: Annotated[
            str, typer.Option("--usd", help="What the shares cost or brought; empty: by the broker's cash.")
        ] = "",
        yes: Annotated[
            bool, typer.Option("--yes", help="Book it; without it what would be is said.")
        ] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Book shares that the broker has more or less of than our orders explain; the next pass hedges what is open then."""
        from app.hedging import actions

        amount = decimal_of("usd", usd) if usd else None
        body = run(lambda found: actions.settle(found, symbol, reason, amount, yes=yes))
        emit(as_json, body, lambda: _settled(body))

    @hedging.command("process-tx")
    def process_tx(
        transaction: Annotated[str, typer.Argument(help="0x and 64 hex digits.")], as_json: JsonFlag = False
    ) -> None:
        """Account for one transaction's fills: the blocks up to its own are read, and what was known stays as it is."""
        from app.hedging import actions

        body = run(lambda found: actions.process_tx(found, transaction))
        emit(as_json, body, lambda: _rows(body["fills"], FILL_COLUMNS))

    rebalancing.add_to(hedging, settings, emit)


FILL_COLUMNS = ("at", "symbol", "side", "shares", "usdc", "kind", "block", "transaction")
ORDER_COLUMNS = ("at", "symbol", "side", "shares", "filled", "price_usd", "state", "order", "why")
CANDIDATE_COLUMNS = ("ref", "status", "filled", "entered")
PAIR_COLUMNS = ("opener", "closer", "symbol", "shares", "realised_usd", "what", "open_s")


def _rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [["" if one.get(name) is None else one[name] for name in columns] for one in rows]
    show_rows([name.replace("_", " ") for name in columns], cells)


def _passes(body: dict[str, Any]) -> None:
    out.print(f"{body['passes']} passes, {body['fills']} fills read, {body['orders']} orders", markup=False)


def _backfilled(body: dict[str, Any]) -> None:
    out.print(f"read up to block {body['block']}: {body['fills']} new fills", markup=False)
    for why, count in body["skipped"].items():
        out.print(f"  left out: {count} × {why}", markup=False, soft_wrap=True)


def _status(body: dict[str, Any]) -> None:
    _rows(body["symbols"], ("symbol", "open_shares", "open_s", "order", "why"))
    for one in body["cursors"]:
        line = f"{one['chain']}: read up to block {one['next_block'] - 1}, {one['behind_blocks']} behind, {one['read_s']} s ago"
        out.print(line, markup=False)
        for why, count in one["skipped"].items():
            out.print(f"  left out: {count} × {why}", markup=False)
    for line in [*body["quarantined"], *(f"{each['kind']}: {each['text']}" for each in body["alerts"])]:
        out.print(line, markup=False, soft_wrap=True)


def _settled(body: dict[str, Any]) -> None:
    _rows(body["rows"], ("side", "shares", "usd"))
    out.print(
        f"{body['name']}: {body['open_shares']} shares of {body['symbol']} are open now",
        markup=False,
    )
    for one in body["differences"]:
        out.print(
            f"  still differs: {one['what']}, {one['venue']} there, {one['ledger']} by the ledger",
            markup=False,
        )


def _pnl(body: dict[str, Any]) -> None:
    columns = (
        "symbol",
        "trades",
        "chain_usdc",
        "spread_usd",
        "netting_usd",
        "directional_usd",
        "realised_usd",
        "open_shares",
    )
    _rows(body["symbols"], columns)
    bps = "" if body["spread_bps"] is None else f" ({body['spread_bps']} bps)"
    out.print(
        f"spread {body['spread_usd']} USD{bps}, fees {body['fees_usd']} USD",
        markup=False,
    )
    for path in body.get("files", ()):
        out.print(path, markup=False)
