"""Lives of positions drawn by seed: an entry, changes hours apart, mostly a way out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

from evenkeel.legs import IntentKind
from tests.carry.histories import NANO, History, rounded
from tests.carry.market_path import HOUR_MS, MarketPath

D = Decimal
LATEST_HOURS = 6
"""By how much a booking may be late: so long the market goes on after a life."""


def lived(seed: int, start_ms: int) -> History:
    """One life: an entry, up to six changes hours apart, and mostly a way out."""
    chance = Random(seed)
    path = MarketPath(
        chance.choice(("SOL", "jitoSOL")), start_ms, hours=chance.randint(8, 20) + LATEST_HOURS, chance=chance
    )
    one = History(f"p{seed}", path, chance)
    margin, leverage = D(chance.randint(2_000, 9_000)), chance.choice((D(2), D(3), D("2.5")))
    tokens = rounded(margin * leverage / path.token(one.at_ms), NANO)
    one.swap(IntentKind.OPEN, tokens, rounded(margin * (leverage - 1)), "open_long")
    _level(one, IntentKind.OPEN)
    changes: list[Callable[[], None]] = [
        lambda: _resize(one, -D(chance.randint(5, 40)) / 100, "partial_close"),
        lambda: _resize(one, D(chance.randint(5, 30)) / 100, "increase_leverage"),
        lambda: one.repay(D(chance.randint(50, 900))),
        lambda: one.lender_takes(D(chance.randint(3, 30)) / 100),
        lambda: one.take(D(chance.randint(10, 60)) / 100, backstop=chance.random() < 0.3),
    ]
    room_ms = (path.end_ms - LATEST_HOURS * HOUR_MS - one.at_ms) // 8
    for _ in range(chance.randint(0, 6)):
        one.passes(one.at_ms + chance.randint(room_ms // 10, room_ms))
        chance.choice(changes)()
        if chance.random() < 0.8:
            _level(one, IntentKind.RESIZE)
    one.passes(one.at_ms + chance.randint(60_000, room_ms))
    if chance.random() < 0.75:
        one.swap(IntentKind.CLOSE, D(-1), D(0), "close_long")
        while one.short:
            part = one.short if chance.random() < 0.6 else rounded(one.short / 2, D("0.01"))
            one.trade(IntentKind.CLOSE, part or one.short)
    one.passes(one.at_ms + 60_000)
    return one


def _resize(one: History, share: Decimal, op: str) -> None:
    """Sell a share of the tokens and repay that share of the debt, or borrow for more of them."""
    tokens = rounded(one.tokens * share, NANO)
    borrowed = rounded(tokens * one.path.token(one.at_ms)) if share > 0 else rounded(one.debt * share)
    one.swap(IntentKind.RESIZE, tokens, borrowed, op)


def _level(one: History, kind: IntentKind) -> None:
    """Bring the short to the long, in one or two orders."""
    one.soon()
    change = rounded(one.tokens * one.path.rate(one.at_ms), D("0.01")) - one.short
    if abs(change) < D("0.1"):
        return
    first = rounded(change / 2, D("0.01")) if one.chance.random() < 0.4 else change
    for signed in (first, change - first):
        if signed:
            one.trade(kind, -signed)
