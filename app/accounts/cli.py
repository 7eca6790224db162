"""`evenkeel accounts`: who lets whom trade, trades in their names, and what is charged."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.accounts import cli_service
from app.screens import Emit, JsonFlag, decimal_of, out, seconds_of, show_rows
from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

AccountArgument = Annotated[str, typer.Argument(help="The user's wallet, 0x and 40 hex digits.")]
DeploymentArgument = Annotated[str, typer.Argument(help="A deployment's name, as `accounts list` shows it.")]


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands on the command line."""
    accounts = typer.Typer(help="Trades in users' names, by delegation.", no_args_is_help=True)
    app.add_typer(accounts, name="accounts")
    cli_service.add_to(accounts, settings, emit)

    def run(doing: Callable[[Settings], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        return asyncio.run(doing(settings()))

    @accounts.command("agent")
    def agent(
        name: Annotated[str, typer.Argument(help="Of the agent, one word.")],
        share: Annotated[str, typer.Option(help="Of realised net profit; empty: the settings'.")] = "",
        venue: Annotated[str, typer.Option(help="ostium or hyperliquid")] = "ostium",
        as_json: JsonFlag = False,
    ) -> None:
        """Store who trades: the key of these settings, for a share of what it earns."""
        from app.accounts import actions

        part = decimal_of("--share", share) if share else None
        body = run(lambda found: actions.add_agent(found, name, part, venue))
        does = f"users name {body['key_address']} their delegate"
        if venue != "ostium":
            does = "`accounts deploy` says which address each user approves"
        emit(as_json, body, lambda: out.print(f"agent {name}: {does}", markup=False))

    @accounts.command("deploy")
    def deploy(
        account: AccountArgument,
        agent: Annotated[str, typer.Option(help="Who trades for him.")],
        collateral: Annotated[
            str | None, typer.Option(help="The most of one trade, USDC; 100 where none is stored.")
        ] = None,
        leverage: Annotated[
            str | None, typer.Option(help="The most of one trade; 3 where none is stored.")
        ] = None,
        slippage_bps: Annotated[
            int | None, typer.Option(help="The most of one order, basis points; 100 where none is stored.")
        ] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Let an agent trade for a user, within limits; again: other limits from now on. Active once the chain shows his
        delegate and his allowances."""
        from app.accounts import actions
        from app.accounts.limits import Asked

        most = None if collateral is None else decimal_of("--collateral", collateral)
        times = None if leverage is None else decimal_of("--leverage", leverage)
        asked = Asked(most, times, slippage_bps)
        body = run(lambda found: actions.deploy(found, account, agent, asked))
        emit(as_json, body, lambda: _deployment(body))

    @accounts.command("check")
    def check(deployment: DeploymentArgument, as_json: JsonFlag = False) -> None:
        """Read a deployment on the chain: delegate, allowances, money. It becomes active, or says what is missing."""
        from app.accounts import actions

        body = run(lambda found: actions.check(found, deployment))
        emit(as_json, body, lambda: _deployment(body))

    @accounts.command("pause")
    def pause(deployment: DeploymentArgument, as_json: JsonFlag = False) -> None:
        """Open nothing more for a user; what is open is guarded and can be closed."""
        from app.accounts import actions

        body = run(lambda found: actions.pause(found, deployment))
        emit(as_json, body, lambda: _deployment(body))

    @accounts.command("list")
    def show(as_json: JsonFlag = False) -> None:
        """Deployments, trades that are not over, and charges that are not paid. Needs no key and asks no venue."""
        from app.accounts import actions

        body = actions.listed(settings())
        emit(as_json, body, lambda: _list(body))

    @accounts.command("open")
    def open_(
        deployment: DeploymentArgument,
        market: Annotated[str, typer.Argument(help="As in [ostium.markets], for example SOL/USD.")],
        side: Annotated[str, typer.Argument(help="long or short")],
        collateral: Annotated[str, typer.Option(help="USDC.")],
        leverage: Annotated[str, typer.Option()] = "1",
        slippage_bps: Annotated[int, typer.Option(help="Basis points.")] = 50,
        limit: Annotated[
            str, typer.Option(help="USD: wait at the venue until the price has come there.")
        ] = "",
        stop_entry: Annotated[
            str, typer.Option(help="USD: wait at the venue until the price has gone through it.")
        ] = "",
        take_profit: Annotated[str, typer.Option(help="USD; empty: none. It stands at the venue.")] = "",
        name: Annotated[str, typer.Option(help="Of the trade: the same name twice is one trade.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Open one trade in a user's name, at the market, or by an order that waits at the venue for its price."""
        from app.accounts import actions

        size = decimal_of("--collateral", collateral), decimal_of("--leverage", leverage)
        profit = decimal_of("--take-profit", take_profit) if take_profit else None
        wait = decimal_of("--limit", limit) if limit else None
        through = decimal_of("--stop-entry", stop_entry) if stop_entry else None
        body = run(
            lambda found: actions.open_trade(
                found,
                deployment,
                market,
                side,
                *size,
                slippage_bps,
                name,
                profit,
                limit=wait,
                stop_entry=through,
            )
        )
        emit(as_json, body, lambda: _trades([body]))

    @accounts.command("close")
    def close(
        trade: Annotated[str, typer.Argument(help="A trade's name.")],
        share: Annotated[str, typer.Option(help="Of the trade, 1 for all.")] = "1",
        slippage_bps: Annotated[int, typer.Option(help="Basis points.")] = 50,
        as_json: JsonFlag = False,
    ) -> None:
        """Close a trade or a part of it, at the market."""
        from app.accounts import actions

        body = run(
            lambda found: actions.close_trade(found, trade, decimal_of("--share", share), slippage_bps)
        )
        emit(as_json, body, lambda: _trades([body]))

    @accounts.command("cancel")
    def cancel(
        trade: Annotated[str, typer.Argument(help="A trade's name.")], as_json: JsonFlag = False
    ) -> None:
        """Cancel the order of a trade that waits at the venue for its price. The venue keeps its fee."""
        from app.accounts import actions

        body = run(lambda found: actions.cancel_order(found, trade))
        emit(as_json, body, lambda: _trades([body]))

    @accounts.command("collect")
    def collect(as_json: JsonFlag = False) -> None:
        """Pull every charge that is due or outstanding, each once."""
        from app.accounts import actions

        body = run(actions.collect)
        emit(as_json, body, lambda: _charges(body["charges"]))

    @accounts.command("flatten")
    def flatten(
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        reason: Annotated[str, typer.Option(help="Kept with the pause.")] = "asked for by the operator",
        within: Annotated[float, typer.Option(help="Seconds to go on trying.")] = 600.0,
        as_json: JsonFlag = False,
    ) -> None:
        """Pause openings, then close every trade that an agent opened, until nothing is left. Exit code 1 if anything is."""
        from app.accounts import actions

        if not yes and not (sys.stdin.isatty() and typer.confirm("Close every trade at once?", err=True)):
            raise OperatorError("nothing was closed: confirm, or give --yes")
        seconds_of("--within", within)
        body = run(lambda found: actions.flatten(found, reason, within))

        def human() -> None:
            for text in (*(f"{name}: {state}" for name, state in body["trades"].items()), *body["left"]):
                out.print(text, markup=False, soft_wrap=True)
            out.print("flat" if body["flat"] else "NOT FLAT", style="bold")

        emit(as_json, body, human)
        if not body["flat"]:
            raise typer.Exit(1)

    @accounts.command("hand-back")
    def hand_back(
        trade: Annotated[str, typer.Argument(help="A trade's name.")], as_json: JsonFlag = False
    ) -> None:
        """Let the agent set the stop of a trade again that its user had moved. Needs no key and asks no venue."""
        from app.accounts import actions

        body = run(lambda found: actions.hand_back(found, trade))
        emit(as_json, body, lambda: _trades([body]))

    @accounts.command("watch")
    def watch(
        once: Annotated[bool, typer.Option("--once", help="One tick, then end.")] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Watch every trade: read the chain, follow orders, trail stops, pull charges. Every 30 s until it is ended."""
        from app.accounts import operating

        body = run(lambda found: operating.watch(found, once=once))
        emit(
            as_json,
            body,
            lambda: out.print(f"{body['ticks']} ticks, {body['settled']} settlements", markup=False),
        )


def _deployment(body: dict[str, Any]) -> None:
    out.print(f"{body['deployment_id']}: {body['state']}", markup=False)
    for line in body.get("missing", ()):
        out.print(f"  missing: {line}", markup=False, soft_wrap=True)


def _list(body: dict[str, Any]) -> None:
    names = ("deployment_id", "account", "agent_id", "state", "result_usdc")
    cells = [[one[name] for name in names] for one in body["deployments"]]
    show_rows(("deployment", "account", "agent", "state", "result USDC"), cells)
    _trades(body["trades"])
    _charges(body["charges"])


def _trades(rows: list[dict[str, Any]]) -> None:
    cells = [
        [
            one["name"],
            one["market"],
            "long" if one["is_long"] else "short",
            one["state"],
            one["paid_usdc"],
            "none" if one["stop_usd"] is None else one["stop_usd"],
            one["result_usdc"],
            one.get("why", ""),
        ]
        for one in rows
    ]
    show_rows(("trade", "market", "side", "state", "paid USDC", "stop USD", "result USDC", "why"), cells)


def _charges(rows: list[dict[str, Any]]) -> None:
    names = ("charge_id", "base_usdc", "usdc", "state", "why")
    show_rows(("charge", "of USDC", "USDC", "state", "why"), [[one[name] for name in names] for one in rows])
