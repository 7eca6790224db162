"""The broker's shares and cash, and our vaults, against the ledger: differences are reported, nothing is corrected.

An account may hold more than our hedges brought. So what venue and ledger were apart at the first comparison is kept as the
base, and every later one is held against it; a person may take what is there now as the new base.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal

from evenkeel.errors import UNREAD
from evenkeel.types import Frozen
from state.hedging.amounts import EXACT, ZERO, minus, plus, total
from state.hedging.moving import BUY
from state.watch_models import Severity
from strategy.hedging.rebalancing import USDC
from tasks.hedging.desk import HedgingDesk
from tasks.oddities import note_oddities
from venues.broker_rules import text_of

BASE = "hedging-base:"
DIFFERS = "hedging differs"
"""The alert of a broker or a vault that holds something else than the ledger says."""


CASH = "cash at "
LEAST, ROUNDING = Decimal("0.000000001"), Decimal("1e-15")
ROUND_TO = Context(prec=60)


class HedgingDifference(Frozen):
    """`what` the venue shows `venue` of, where the ledger and the base make it `ledger`."""

    what: str
    venue: Decimal
    ledger: Decimal


class HedgingReconciled(Frozen):
    """How many figures were compared, which differ, and what could not be compared, by name with the reason."""

    compared: int
    differences: tuple[HedgingDifference, ...]
    left_out: dict[str, str]

    @property
    def agrees(self) -> bool:
        """Everything was compared, and nothing differs."""
        return not self.differences and not self.left_out


async def reconcile_hedging(at: HedgingDesk, *, rebase: bool = False) -> HedgingReconciled:
    """Compare once. With `rebase` what is there now is the base from now on. What cannot be read is named, not guessed."""
    shown, booked, left_out = await broker_figures(at)
    await _vaults(at, shown, booked, left_out)
    note_oddities(at.desk)
    store = at.desk.store
    base = base_of(at)
    differences = []
    for what, figure in shown.items():
        apart = minus(figure, booked[what])
        if rebase or what not in base:
            base[what] = apart
        elif without_rounding(what, minus(apart, base[what])):
            differences.append(
                HedgingDifference(what=what, venue=figure, ledger=plus(booked[what], base[what]))
            )
    store.move_checkpoint(
        _base(at), at.desk.clock.now_ms(), {what: str(apart) for what, apart in base.items()}
    )
    _say(at, differences)
    return HedgingReconciled(compared=len(shown), differences=tuple(differences), left_out=left_out)


def without_rounding(what: str, apart: Decimal) -> Decimal:
    """Return a difference, of cash without what only the rounding of mean prices makes: 1 share at 260 and 2 at 261.01 have a
    mean that does not end, so that the cost by it is off in its 25th decimal.
    """
    if not what.startswith(CASH):
        return apart
    whole = ROUND_TO.quantize(apart, LEAST)
    return Decimal(text_of(whole)) if 0 < abs(minus(apart, whole)) < ROUNDING else apart


def base_of(at: HedgingDesk) -> dict[str, Decimal]:
    """Return by figure how far venue and ledger were apart when they were compared first, or a person took them as right."""
    kept = at.desk.store.checkpoint(_base(at))
    return {what: Decimal(text) for what, text in (kept.detail if kept else {}).items()}


def _base(at: HedgingDesk) -> str:
    return f"{BASE}{at.broker.name}"


async def broker_figures(at: HedgingDesk) -> tuple[dict[str, Decimal], dict[str, Decimal], dict[str, str]]:
    """Return shares of each symbol and cash as the broker shows them, as the ledger has them, and by name why others are not
    compared.
    """
    shown: dict[str, Decimal] = {}
    booked: dict[str, Decimal] = {}
    left_out: dict[str, str] = {}
    await _broker(at, shown, booked, left_out)
    return shown, booked, left_out


async def _broker(
    at: HedgingDesk, shown: dict[str, Decimal], booked: dict[str, Decimal], left_out: dict[str, str]
) -> None:
    """Add them. While an order or a rebalance is open nobody knows what of it is booked already."""
    hedging, name = at.desk.store.hedging, at.broker.name
    moving = {one.scope: one.name for one in hedging.rebalances(open_only=True) if one.state.is_wanted}
    moved = hedging.moved_at_broker()
    busy = {one.subject for one in hedging.open_orders()}
    try:
        held = await at.broker.holdings()
        cash = await at.broker.cash()
    except UNREAD as error:
        left_out[name] = str(error)
        return
    if busy != {one.subject for one in hedging.open_orders()}:
        left_out[name] = "an order went or came while it was read"
        return
    for symbol in sorted({*at.settings.symbols, *(one.symbol for one in hedging.exposures())}):
        if symbol in busy:
            left_out[f"{symbol} at {name}"] = "an order is open"
            continue
        row = hedging.exposure(symbol)
        if symbol in moving:
            left_out[f"{symbol} at {name}"] = f"{moving[symbol]} is open"
            continue
        shown[f"{symbol} at {name}"] = held[symbol].qty if symbol in held else ZERO
        hedged = minus(row.hedge_bought, row.hedge_sold)
        booked[f"{symbol} at {name}"] = plus(hedged, moved.get(symbol, ZERO))
    if busy:
        left_out[f"cash at {name}"] = "an order is open"
        return
    if USDC in moving:
        left_out[f"cash at {name}"] = f"{moving[USDC]} is open"
        return
    shown[f"cash at {name}"] = cash
    traded = total(minus(ZERO, one.usd) if one.side == BUY else one.usd for one in hedging.hedges())
    booked[f"cash at {name}"] = plus(traded, moved.get("USD", ZERO))


async def _vaults(
    at: HedgingDesk, shown: dict[str, Decimal], booked: dict[str, Decimal], left_out: dict[str, str]
) -> None:
    """Each token over the vaults that were ever moved into or out of, at the last block that is read."""
    hedging = at.desk.store.hedging
    cursor = hedging.cursor(at.chain, at.contract)
    tokens = {one.token: (symbol, one.decimals) for symbol, one in at.settings.symbols.items()}
    tokens[at.settings.chain.usdc] = ("USDC", 6)
    moves = hedging.vault_moves()
    vaults: dict[str, set[str]] = {}
    for move in moves:
        vaults.setdefault(move.token, set()).add(move.vault_id)
    booked_tokens = _tokens_booked(at)
    for token, (symbol, decimals) in tokens.items():
        what = f"{symbol} in vaults"
        if cursor is None or token not in vaults:
            left_out[what] = "no vault of it is known: none was moved into or out of since reading began"
            continue
        try:
            found = [
                await at.reader.vault_balance(token, vault, cursor.next_block - 1)
                for vault in sorted(vaults[token])
            ]
        except UNREAD as error:
            left_out[what] = str(error)
            continue
        signs = {"deposit": Decimal(1), "withdraw": Decimal(-1)}
        moved = [
            EXACT.multiply(signs[move.kind], move.units.scaleb(-decimals, EXACT))
            for move in moves
            if move.token == token
        ]
        shown[what] = total(found)
        booked[what] = plus(total(moved), booked_tokens.get(token, ZERO))


def _tokens_booked(at: HedgingDesk) -> Mapping[str, Decimal]:
    """By token, what fills brought into our vaults less what they took out of them."""
    found: dict[str, Decimal] = {}
    usdc = at.settings.chain.usdc
    for fill in at.desk.store.hedging.fills():
        tokens = EXACT.divide(fill.shares, fill.ratio)
        way = 1 if fill.side == BUY else -1
        found[fill.token] = plus(found.get(fill.token, ZERO), EXACT.multiply(Decimal(way), tokens))
        found[usdc] = minus(found.get(usdc, ZERO), EXACT.multiply(Decimal(way), fill.usdc))
    return found


def _say(at: HedgingDesk, differences: list[HedgingDifference]) -> None:
    store = at.desk.store
    differing = {one.what for one in differences}
    for alert in store.alerts(open_only=True):
        if alert.kind == DIFFERS and alert.subject not in differing:
            store.ack_alert(DIFFERS, alert.subject)
    for one in differences:
        store.alert(
            DIFFERS,
            Severity.WARNING,
            f"{one.what}: {one.venue:f} there, {one.ledger:f} by the ledger; nothing is corrected by itself",
            subject=one.what,
        )
