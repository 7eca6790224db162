"""What a live position has earned and paid so far, from the ledger alone: between two reports, asking no venue."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import CARRY, LegSide
from evenkeel.types import Frozen
from state.carry.models import PositionSnapshot
from state.store import Store

ZERO = Decimal(0)
NAMED_ELSEWHERE = frozenset({"hl_taker", "asgard_protocol"})
"""Fees that a fill of the short, or a change of the long, has in it already."""


class Earned(Frozen):
    """Amounts in USD, income positive. `borrow_usd` is interest on the USDC owed, below zero; `lending_usd` is interest in
    tokens, at their price of now. `net_usd` is everything that is booked: price, funding, interest, fees and gas. Only the
    report holds it against the venues.
    """

    borrow_usd: Decimal
    lending_usd: Decimal
    net_usd: Decimal | None


def earned(store: Store, last: PositionSnapshot, funding_usd: Decimal) -> Earned | None:
    """Return what the position of this snapshot has earned up to it, `funding_usd` of it as funding; None where its long was
    not read. `net_usd` is None where the short's price is missing.
    """
    name = last.position_id
    held, owed, price = (last.detail.get(key) for key in ("tokens", "debt_usd", "token_price_usd"))
    if held is None or owed is None or price is None:
        return None
    changes, seized = store.carry.lending_changes(name), store.carry.liquidations(name)
    steps = [
        (one.tokens_after - one.tokens_before, one.debt_after_usd - one.debt_before_usd) for one in changes
    ]
    steps += [
        (one.tokens_after - one.tokens_before, one.debt_after_usd - one.debt_before_usd) for one in seized
    ]
    tokens = Decimal(held) - sum((one for one, _ in steps), ZERO)
    interest = Decimal(owed) - sum((one for _, one in steps), ZERO)
    net = None
    if last.short_price_usd is not None:
        long = (
            Decimal(held) * Decimal(price)
            - Decimal(owed)
            + sum((one.wallet_usdc_delta for one in changes), ZERO)
        )
        short = ZERO
        for fill in (one for one in store.fills_of(CARRY, name) if one.part == LegSide.SHORT):
            signed = fill.qty if fill.side == "buy" else -fill.qty
            short += signed * (last.short_price_usd - fill.price_usd) - fill.fee_usd
        others = [one for one in store.fees(CARRY, name) if one.kind not in NAMED_ELSEWHERE]
        net = long + short + funding_usd - sum((one.amount_usd or ZERO for one in others), ZERO)
    return Earned(borrow_usd=-interest, lending_usd=tokens * Decimal(price), net_usd=net)
