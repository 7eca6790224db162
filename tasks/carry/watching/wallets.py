"""Both venues' money while nothing is held: a person is warned once where it is apart, with the transfer that levels it."""

from __future__ import annotations

import logging
from decimal import Decimal

from evenkeel.errors import UNREAD, OperatorError
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.wallets_apart import NAME, wallets_apart
from tasks.carry.desk import CarryDesk
from tasks.carry.limits import limits_of
from tasks.carry.mark import LIVE
from tasks.carry.watching.early_warnings import raise_warning

log = logging.getLogger("evenkeel.warnings")


def note_money(desk: CarryDesk, wallet_usd: Decimal, margin_usd: Decimal, *, but: str = "") -> None:
    """Judge USDC of the wallet against the account's; nothing is judged while a position lives, but the one that ends."""
    if any(one.position_id != but for one in desk.store.carry.positions(LIVE)):
        return
    runs = _is_shown(desk)
    readings = WarningReadings(
        now_ms=desk.clock.now_ms(),
        running=frozenset({NAME}) if runs else frozenset(),
        wallet_usd=wallet_usd,
        margin_usd=margin_usd,
        wallet_name=desk.accounts.long_account,
        margin_name=desk.accounts.short_account,
    )
    state = wallets_apart(readings, limits_of(desk)).answer
    if state.stands and not runs:
        raise_warning(desk, state, "")
    elif runs and not state.stands:
        desk.store.ack_alert(NAME)


async def money_is_level(desk: CarryDesk) -> None:
    """Read both again where the warning stands, and close it where they are level. Raises nothing for a venue that does not
    answer.
    """
    if not _is_shown(desk) or desk.store.carry.positions(LIVE):
        return
    try:
        wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    except (*UNREAD, OperatorError) as fault:
        log.info("the money on both venues cannot be read now: %s", fault)
        return
    note_money(desk, wallet.usdc, account.free_margin_usd)


def _is_shown(desk: CarryDesk) -> bool:
    return any(row.kind == NAME for row in desk.store.alerts(open_only=True))
