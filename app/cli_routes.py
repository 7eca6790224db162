"""`evenkeel routes`: which exchanges a swap may pass through, and what an installation adds to the program's dated table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import Emit, JsonFlag, out, show_rows

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

AddressArgument = Annotated[str, typer.Argument(help="A Solana address.")]
NameOption = Annotated[str, typer.Option("--name", help="What it is, for people.")]


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands on the command line."""
    routes_app = typer.Typer(help="Exchanges that a swap may pass through.", no_args_is_help=True)
    more_app = typer.Typer(
        help="Add to the table; running processes notice it at their next build.", no_args_is_help=True
    )
    app.add_typer(routes_app, name="routes")
    routes_app.add_typer(more_app, name="add")

    @routes_app.command("show")
    def show(
        kinds: Annotated[bool, typer.Option("--kinds", help="The routers' kinds of steps too.")] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """The table as it stands: the program's own with its date, and what was added here."""
        from app import routes

        body = routes.shown(settings())
        emit(as_json, body, lambda: _show(body, kinds))

    def shown(as_json: bool, body: dict[str, Any]) -> None:
        words = f"added to {body['file']}: {body['added']}"
        emit(as_json, body, lambda: out.print(words, markup=False, soft_wrap=True))

    def added(as_json: bool, group: str, address: str, name: str) -> None:
        from app import routes

        shown(as_json, routes.add_address(settings(), group, address, name))

    @more_app.command("program")
    def program(address: AddressArgument, name: NameOption = "", as_json: JsonFlag = False) -> None:
        """An exchange's program that routes may call: our signature reaches it. Look it up with the exchange itself first."""
        added(as_json, "programs", address, name)

    @more_app.command("account")
    def account(address: AddressArgument, name: NameOption = "", as_json: JsonFlag = False) -> None:
        """An account that exchanges name and that is not on chain, such as an authority that holds nothing."""
        added(as_json, "accounts", address, name)

    @more_app.command("fee-account")
    def fee_account(address: AddressArgument, name: NameOption = "", as_json: JsonFlag = False) -> None:
        """A token account that may receive the router's platform fee, within safety.router_fee_cap_bps: Asgard's own."""
        added(as_json, "fee_accounts", address, name)

    @more_app.command("kind")
    def kind(
        number: Annotated[int, typer.Argument(help="Its number in the router's data.")],
        name: Annotated[str, typer.Argument(help="One word.")],
        layout: Annotated[
            str, typer.Argument(help="Its arguments: 8 (bytes), [2] (a list), {9|1}, ?1; '' for none.")
        ] = "",
        router: Annotated[str, typer.Option(help="jupiter or dflow")] = "jupiter",
        as_json: JsonFlag = False,
    ) -> None:
        """A kind of step whose arguments the router's interface has published since."""
        from app import routes

        shown(as_json, routes.add_kind(settings(), router, number, name, layout))


def _show(body: dict[str, Any], kinds: bool) -> None:
    out.print(
        f"table of {body['as_of']}; additions: {body['file']} ({body['added']})", markup=False, soft_wrap=True
    )
    for group in ("programs", "accounts", "fee_accounts"):
        if body[group]:
            show_rows(("address", "what"), list(body[group].items()), title=group.replace("_", " "))
        else:
            out.print(f"{group.replace('_', ' ')}: none")
    for router in ("jupiter", "dflow"):
        if not kinds:
            out.print(f"{router}: {len(body[router])} kinds of steps (--kinds shows them)")
            continue
        cells = [[number, name, layout or "none"] for number, (name, layout) in body[router].items()]
        show_rows(("kind", "name", "arguments"), cells, title=router)
