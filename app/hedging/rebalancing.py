"""`evenkeel hedging rebalance`: what is moved between chain and broker, who approves it, and what a person does of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import Emit, JsonFlag, decimal_of, out, show_rows

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

NameArgument = Annotated[str, typer.Argument(help="A rebalance's name, as `list` shows it.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the audit log.")]
COLUMNS = ("name", "scope", "direction", "amount", "usd", "state", "steps", "costs", "by", "why")


def add_to(hedging: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands below `evenkeel hedging`."""
    group = typer.Typer(help="Equity and USDC between chain and broker, by target and deviation.")
    hedging.add_typer(group, name="rebalance")

    @group.callback(invoke_without_command=True)
    def group_(context: typer.Context, as_json: JsonFlag = False) -> None:
        """Equity and USDC between chain and broker, by target and deviation. Without a command: the list."""
        if context.invoked_subcommand is None:
            from app.hedging import rebalance_actions as actions

            body = actions.listed(settings(), 20)
            emit(as_json, body, lambda: _table(body))

    def show(as_json: bool, body: dict[str, Any]) -> None:
        emit(as_json, body, lambda: _table(body))

    @group.command("list")
    def list_(
        limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The newest so many.")] = 20,
        as_json: JsonFlag = False,
    ) -> None:
        """Proposals and how each stands, the newest last. Needs no key and asks no venue."""
        from app.hedging import rebalance_actions as actions

        show(as_json, actions.listed(settings(), limit))

    @group.command("propose")
    def propose_(as_json: JsonFlag = False) -> None:
        """Propose what is out of its band, and carry out what was approved; with `auto` also within its cap."""
        from app.hedging import rebalance_actions as actions

        show(as_json, asyncio.run(actions.propose(settings())))

    @group.command("approve")
    def approve_(name: NameArgument, as_json: JsonFlag = False) -> None:
        """Approve a proposal, and carry it out as far as it goes now."""
        from app.hedging import rebalance_actions as actions

        show(as_json, asyncio.run(actions.approve(settings(), name)))

    @group.command("refuse")
    def refuse_(name: NameArgument, why: WhyOption = "", as_json: JsonFlag = False) -> None:
        """Refuse a proposal; its scope is free for the next."""
        from app.hedging import rebalance_actions as actions

        show(as_json, actions.refuse(settings(), name, why))

    @group.command("run")
    def run_(
        name: Annotated[str, typer.Argument(help="One of them; empty: all that were approved.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Go on with what was approved, from where it stands."""
        from app.hedging import rebalance_actions as actions

        show(as_json, asyncio.run(actions.run(settings(), name)))

    @group.command("bridged")
    def bridged_(
        name: NameArgument,
        usdc: Annotated[str, typer.Argument(help="USDC that came over.")],
        as_json: JsonFlag = False,
    ) -> None:
        """Say that USDC came over the bridge: a balance proves it, or it is refused."""
        from app.hedging import rebalance_actions as actions

        amount: Decimal = decimal_of("USDC", usdc)
        show(as_json, asyncio.run(actions.bridged(settings(), name, amount)))

    @group.command("unsent")
    def unsent_(name: NameArgument, why: WhyOption = "", as_json: JsonFlag = False) -> None:
        """Say that a move which is in doubt never left the broker; refused where its list shows what may be it."""
        from app.hedging import rebalance_actions as actions

        show(as_json, asyncio.run(actions.unsent(settings(), name, why)))

    @group.command("choose")
    def choose_(
        name: NameArgument,
        row: Annotated[
            str,
            typer.Argument(help="Which of the broker's rows it is, or none; empty: show which there are."),
        ] = "",
        why: WhyOption = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Say which of several payments at the broker a move is whose answer was lost."""
        from app.hedging import rebalance_actions as actions

        if not row:
            body = asyncio.run(actions.rows(settings(), name))
            emit(as_json, body, lambda: _rows(body))
            return
        show(as_json, asyncio.run(actions.choose(settings(), name, row, why)))

    @group.command("resume")
    def resume_(name: NameArgument, as_json: JsonFlag = False) -> None:
        """Let one that is stuck be tried again, once its cause is gone."""
        from app.hedging import rebalance_actions as actions

        show(as_json, asyncio.run(actions.resume(settings(), name)))

    @group.command("end")
    def end_(name: NameArgument, why: WhyOption = "", as_json: JsonFlag = False) -> None:
        """Say that the rest was done by hand: its scope is free for the next. Refused while an order of it is under way."""
        from app.hedging import rebalance_actions as actions

        show(as_json, asyncio.run(actions.end(settings(), name, why)))

    @group.command("allow")
    def allow_(as_json: JsonFlag = False) -> None:
        """Ask the broker to pay out to our wallet, which it does to addresses of its whitelist only."""
        from app.hedging import rebalance_actions as actions

        body = asyncio.run(actions.allow(settings()))
        emit(as_json, body, lambda: out.print(f"{body['address']}: {body['status']}", markup=False))


def _rows(body: dict[str, Any]) -> None:
    names = ("row", "status", "amount", "created")
    show_rows(names, [[one[name] for name in names] for one in body["rows"]])


def _table(body: dict[str, Any]) -> None:
    show_rows(COLUMNS, [[one.get(name, "") for name in COLUMNS] for one in body["rebalances"]])
    for scope, why in body.get("holds", {}).items():
        out.print(f"{scope}: {why}", markup=False, soft_wrap=True)
