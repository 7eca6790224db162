"""Jupiter's routes in every form of its program: exact in or exact out, through the user's or the program's accounts, of
the first and the second kind of data, over up to three exchanges.

Account lists follow the published interface; an optional account that is absent is the program's own address. The pool
behind every exchange is the twin's one: what a route does is settled by the plan, whatever it passes through.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from twins.asgard.exchanges import EXCHANGES
from twins.asgard.instructions import EVENT_AUTHORITY, SHARED_AUTHORITY, anchor, readonly, signer, writable
from twins.asgard.venue import (
    FEE_OWNER,
    INF,
    JITOSOL,
    JUPSOL,
    POOL_OWNER,
    SOL,
    TOKEN_PROGRAM,
    USDC_MINT,
    Token,
)

MAX_HOPS = 3
FORMS = tuple(
    f"{shared}{out}route{version}"
    for shared in ("", "shared_accounts_")
    for out in ("", "exact_out_")
    for version in ("", "_v2")
)


@dataclass(frozen=True)
class RouteStyle:
    """How routes are written: the instruction, the exchanges passed through one after another, the shared accounts' id.

    `raw` replaces the step data of an exchange by (kind, arguments) that nobody has published; `programs` are named as
    the exchanges' own, read-only.
    """

    form: str = "route"
    exchanges: tuple[str, ...] = ("Whirlpool",)
    shared_id: int = 0
    raw: tuple[int, bytes] | None = None
    programs: tuple[Pubkey, ...] = ()

    @property
    def exact_out(self) -> bool:
        return "exact_out" in self.form

    @property
    def shared(self) -> bool:
        return self.form.startswith("shared")

    @property
    def v2(self) -> bool:
        return self.form.endswith("_v2")

    def between(self, source: Token, destination: Token) -> list[Token]:
        """Return the tokens between the first and the last, one fewer than exchanges."""
        others = [token for token in (SOL, JITOSOL, JUPSOL, INF) if token not in (source, destination)]
        return others[: len(self.exchanges) - 1]


PLAIN_ROUTE = RouteStyle()


def style_of(body: dict[str, Any], present: RouteStyle) -> RouteStyle:
    """Return the style that an operator's words ask for; ValueError names what is none."""
    form, exchanges = str(body.get("form", present.form)), body.get("exchanges", list(present.exchanges))
    if form not in FORMS:
        raise ValueError(f"form is one of {', '.join(FORMS)}, got {form!r}")
    names = [exchanges] if isinstance(exchanges, str) else list(exchanges)
    if not 1 <= len(names) <= MAX_HOPS or not set(names) <= set(EXCHANGES):
        raise ValueError(f"exchanges are one to {MAX_HOPS} of {', '.join(EXCHANGES)}; got {names}")
    raw = body.get("raw")
    return RouteStyle(
        form,
        tuple(names),
        int(body.get("shared_id", present.shared_id)),
        None if raw is None else (int(raw["kind"]), bytes.fromhex(raw.get("arguments", ""))),
        tuple(Pubkey.from_string(one) for one in body.get("programs", [])),
    )


def routed(
    style: RouteStyle,
    router: Pubkey,
    wallet: Pubkey,
    source: Token,
    destination: Token,
    amounts: tuple[int, int],
    slippage_bps: int,
    platform_fee_bps: int,
) -> Instruction:
    """Return the route. `amounts` in base units: (in, quoted out), or (out, quoted in) where the form is exact out."""
    figures = struct.pack("<QQH", *amounts, slippage_bps)
    plan = _plan(style, source)
    if style.v2:
        data = figures + struct.pack("<HH", platform_fee_bps, 0) + plan
    else:
        data = plan + figures + struct.pack("<B", platform_fee_bps)
    head = anchor(style.form) + (bytes([style.shared_id]) if style.shared else b"")
    accounts = _shared if style.shared else _own
    return Instruction(
        router,
        head + data,
        accounts(style, router, wallet, source, destination, platform_fee_bps)
        + _pools(style, router, wallet, source, destination),
    )


def _plan(style: RouteStyle, source: Token) -> bytes:
    a_to_b = source.symbol != "USDC"
    steps = struct.pack("<I", len(style.exchanges))
    for number, name in enumerate(style.exchanges):
        kind, arguments = EXCHANGES[name].number, EXCHANGES[name].payload(a_to_b)
        if style.raw is not None:
            kind, arguments = style.raw
        share = struct.pack("<H", 10_000) if style.v2 else struct.pack("<B", 100)
        steps += bytes([kind]) + arguments + share + bytes([number, number + 1])
    return steps


def _own(
    style: RouteStyle, router: Pubkey, wallet: Pubkey, source: Token, destination: Token, fee_bps: int
) -> list[AccountMeta]:
    """The accounts of a route between the user's own token accounts."""
    held = writable(_ata(wallet, source), _ata(wallet, destination))
    if style.v2:
        accounts = (
            signer(wallet) + held + readonly(source.mint, destination.mint, TOKEN_PROGRAM, TOKEN_PROGRAM)
        )
        return accounts + readonly(router, EVENT_AUTHORITY, router) + _fee_v2(fee_bps)
    accounts = readonly(TOKEN_PROGRAM) + signer(wallet) + held + readonly(router)
    if style.exact_out:
        accounts += readonly(source.mint, destination.mint)
        return accounts + _fee(router, fee_bps) + readonly(router, EVENT_AUTHORITY, router)
    accounts += readonly(destination.mint) + writable(get_associated_token_address(FEE_OWNER, USDC_MINT))
    return accounts + readonly(EVENT_AUTHORITY, router)


def _shared(
    style: RouteStyle, router: Pubkey, wallet: Pubkey, source: Token, destination: Token, fee_bps: int
) -> list[AccountMeta]:
    """The accounts of a route through the program's token accounts."""
    owner = SHARED_AUTHORITY
    accounts = readonly(owner) + signer(wallet)
    accounts += writable(
        _ata(wallet, source), _ata(owner, source), _ata(owner, destination), _ata(wallet, destination)
    )
    accounts += readonly(source.mint, destination.mint)
    if style.v2:
        return accounts + readonly(TOKEN_PROGRAM, TOKEN_PROGRAM, EVENT_AUTHORITY, router) + _fee_v2(fee_bps)
    return (
        readonly(TOKEN_PROGRAM) + accounts + _fee(router, fee_bps) + readonly(router, EVENT_AUTHORITY, router)
    )


def _fee(router: Pubkey, fee_bps: int) -> list[AccountMeta]:
    return writable(get_associated_token_address(FEE_OWNER, USDC_MINT)) if fee_bps else readonly(router)


def _fee_v2(fee_bps: int) -> list[AccountMeta]:
    """The second kind names no fee account: it is the first of the remaining ones, where there is a fee."""
    return writable(get_associated_token_address(FEE_OWNER, USDC_MINT)) if fee_bps else []


def _pools(
    style: RouteStyle, router: Pubkey, wallet: Pubkey, source: Token, destination: Token
) -> list[AccountMeta]:
    """The remaining accounts: for each exchange its program, its pool's owner and vaults, and what lies between."""
    owner = SHARED_AUTHORITY if style.shared else wallet
    way = [source, *style.between(source, destination), destination]
    accounts: list[AccountMeta] = []
    for number, (given, taken) in enumerate(pairwise(way)):
        if number < len(style.programs):
            accounts += readonly(style.programs[number])
        accounts += readonly(POOL_OWNER)
        accounts += writable(_ata(POOL_OWNER, given), _ata(POOL_OWNER, taken))
        if number:
            accounts += writable(_ata(owner, given))
    return accounts


def _ata(owner: Pubkey, token: Token) -> Pubkey:
    return get_associated_token_address(owner, token.mint)
