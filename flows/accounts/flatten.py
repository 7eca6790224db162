"""The kill switch of managed accounts: openings are paused, then every trade of ours is closed. It knows nothing of Prefect."""

from __future__ import annotations

import logging
from functools import partial

from evenkeel.errors import UNREAD, EvenkeelError, words_of
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.accounts.many import OSTIUM
from state.accounts.models import AccountTrade, TradeState
from state.accounts.store import ACCOUNTS
from tasks.accounts.desk import AccountsDesk, open_accounts_desk
from tasks.accounts.trading import close_trade, side_by_side
from tasks.accounts.waiting import is_waiting, withdraw

log = logging.getLogger("evenkeel.flatten")
AGAIN_S = 3.0
"""Seconds between two passes: a keeper settles within one to two."""
SLIPPAGE_BPS = 300
"""What an emergency gives up at most."""
HELD = (TradeState.PENDING, TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)


class FlattenedAccounts(Frozen):
    """`flat`: no trade of ours is open. `trades`: how each that was open ended; `left`: what still is, and why."""

    flat: bool
    trades: dict[str, str]
    left: tuple[str, ...] = ()


async def flatten_accounts(settings: Settings, reason: str, within_s: float) -> FlattenedAccounts:
    """Close every trade that the desk opened for a user; those of users themselves are theirs. Where the business is off there
    is nothing to close. Raises nothing: what failed is said in `left`.
    """
    if not settings.ostium.enabled:
        return FlattenedAccounts(flat=True, trades={})
    try:
        async with open_accounts_desk(settings) as desk:
            return await flatten_trades(desk, reason, within_s)
    except EvenkeelError as fault:
        log.error("managed accounts are not closed: %s", words_of(fault))
        return FlattenedAccounts(flat=False, trades={}, left=(f"managed accounts: {words_of(fault)}",))


async def flatten_trades(desk: AccountsDesk, reason: str, within_s: float) -> FlattenedAccounts:
    """The same at an open desk, again and again until nothing is left or `within_s` is over."""
    core = desk.desk
    core.store.pause(OSTIUM, reason)
    deadline_ms = core.clock.now_ms() + int(within_s * 1000)
    began = [one.name for one in _ours(desk)]
    why: dict[str, str] = {}
    while True:
        try:
            await desk.tick()
        except UNREAD as fault:
            why["chain"] = words_of(fault)
        left = _ours(desk)
        if not left or core.clock.now_ms() >= deadline_ms:
            break
        ends = await side_by_side([one.name for one in left], partial(_close, desk))
        why = {name: end for name, end in ends.items() if end}
        await core.clock.sleep(AGAIN_S)
    accounts = core.store.accounts
    ended = {name: str(accounts.trade(name).state) for name in began}
    said = tuple(
        f"{one.name} is {one.state}: {why.get(one.name, why.get('chain', 'not settled yet'))}" for one in left
    )
    return FlattenedAccounts(flat=not left, trades=ended, left=said)


def _ours(desk: AccountsDesk) -> list[AccountTrade]:
    rows = desk.desk.store.accounts.trades(*HELD)
    return [one for one in rows if one.deployment_id is not None]


async def _close(desk: AccountsDesk, name: str) -> str:
    """Ask for the close of one trade; return why it is not closed yet, or an empty text."""
    core = desk.desk
    row = core.store.accounts.trade(name)
    under_way = core.store.unfinished_intents(ACCOUNTS, name)
    if is_waiting(row):
        return str(getattr(await withdraw(core, name), "reason", ""))
    if row.state is not TradeState.OPEN or any(one.kind == "close" for one in under_way):
        return "it is being settled"
    price = desk.mids.get(row.pair)
    if price is None:
        return "its market has no price now, or is closed"
    end = await close_trade(core, name, price, SLIPPAGE_BPS)
    return str(getattr(end, "reason", ""))
