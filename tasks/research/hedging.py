"""What the two legs of a position, and of a simulated account, left open to SOL's price: while one stood alone, below a lot."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from analytics.carry.legs import LongEvent, ShortFill
from analytics.research.account import Account
from analytics.research.results import Run
from tasks.research.moments import TOGETHER_MS, in_one_go

ALONE = Decimal("0.005")
"""Of the larger leg: what is not hedged beyond this is a leg that the other has yet to follow, less is drift."""


def between_legs(longs: Sequence[LongEvent], shorts: Sequence[ShortFill]) -> Decimal:
    """Return what SOL's price gave, USD, from each change of a leg to the next one, where one leg stood without the other."""
    changes = [
        (
            one.at_ms,
            (one.change.tokens_after - one.change.tokens_before) * one.redemption_rate,
            Decimal(0),
            one.sol_price_usd,
        )
        for one in longs
    ]
    changes += [(one.fill.time_ms, Decimal(0), _sold(one), _price(one)) for one in shorts]
    changes.sort(key=lambda change: change[0])
    long_sol = short_sol = found = Decimal(0)
    for place, (at_ms, bought, sold, price) in enumerate(changes[:-1]):
        long_sol, short_sol = long_sol + bought, short_sol + sold
        open_sol = long_sol - short_sol
        follows = changes[place + 1][0] - at_ms <= TOGETHER_MS
        if follows and abs(open_sol) > ALONE * max(long_sol, short_sol):
            found += open_sol * (changes[place + 1][3] - price)
    return found


def below_a_lot(longs: Sequence[LongEvent], shorts: Sequence[ShortFill]) -> Decimal:
    """Return what SOL's price gave, USD, on what the short's lots left open of the long: from each change that levelled the
    legs to the next one.
    """
    found = short_sol = left_sol = price_then = Decimal(0)
    for orders in in_one_go(longs, shorts):
        changes = [(one.at_ms, one.sol_price_usd) for one in orders.longs]
        changes += [(one.fill.time_ms, _price(one)) for one in orders.shorts]
        changes.sort(key=lambda change: change[0])
        found += left_sol * (changes[0][1] - price_then)
        short_sol += sum((_sold(one) for one in orders.shorts), Decimal(0))
        if orders.longs:
            last = orders.longs[-1]
            long_sol = last.change.tokens_after * last.redemption_rate
            left_sol = long_sol - short_sol
            if abs(left_sol) > ALONE * max(long_sol, short_sol):
                left_sol = Decimal(0)  # a leg that the other has not followed
        else:
            left_sol = Decimal(0)  # what the long held then is not known
        price_then = changes[-1][1]
    return found


def staked_by(longs: Sequence[LongEvent]) -> Decimal | None:
    """Return what the redemption rate grew by from the first change of the long to the last one, a fraction; None where there
    are not two.
    """
    if len(longs) < 2:
        return None
    in_order = sorted(longs, key=lambda one: one.at_ms)
    return in_order[-1].redemption_rate / in_order[0].redemption_rate - 1


class LeftOpen:
    """What the last trade of a simulated account left open of the long. A venue that liquidates changes one leg alone."""

    def __init__(self) -> None:
        self._sol = self._price_usd = 0.0
        self._at_ms, self._is_alone = 0, False
        self._ours_ms: int | None = None
        self._is_long_known = True

    def traded(self, account: Account, at_ms: int, run: Run, changes_long: bool | None) -> None:
        """Book what SOL's price gave on it since then, and begin anew. `changes_long`: whether an order of ours changed the
        long; None for what a venue did. After a change of the short alone nobody says of a position what its long had become.
        """
        usd = self._sol * (account.oracle_usd - self._price_usd)
        if not self._is_alone:
            run.below_a_lot_usd += usd
        elif at_ms - self._at_ms <= TOGETHER_MS:
            run.between_legs_usd += usd
        goes_on = self._ours_ms is not None and at_ms - self._ours_ms <= TOGETHER_MS
        self._is_long_known = changes_long is not False or (goes_on and self._is_long_known)
        self._ours_ms = None if changes_long is None else at_ms
        open_sol = account.long_sol - account.short_qty
        self._is_alone = abs(open_sol) > float(ALONE) * max(account.long_sol, account.short_qty)
        self._sol = open_sol if self._is_long_known else 0.0
        self._price_usd, self._at_ms = account.oracle_usd, at_ms


def _sold(one: ShortFill) -> Decimal:
    return one.fill.qty if one.fill.side == "sell" else -one.fill.qty


def _price(one: ShortFill) -> Decimal:
    return one.index_price_usd or one.reference_price_usd
