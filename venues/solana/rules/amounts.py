"""The sums of a whole build: nothing is spent, borrowed, sold or deposited beyond what the order is about."""

from __future__ import annotations

from decimal import Decimal

from venues.solana.rules.common import BUYING, SELLING, Draft, Operation
from venues.solana.rules.forms import ALL
from venues.solana.view import Violation

SLACK = Decimal("0.001")
"""Interest runs between the quote and the landing; a sale may be this much larger than the holding we last saw."""


def check_amounts(draft: Draft) -> None:
    """Check the sums over all transactions. Raises `Violation` naming the sum that is too large."""
    expectation = draft.expectation
    bought_with = sum(swap.amount_in for swap in draft.swaps if swap.buys_asset)
    sold = sum(swap.amount_in for swap in draft.swaps if not swap.buys_asset)
    if expectation.op in BUYING:
        _at_most("borrow", "borrows", draft.borrowed, expectation.max_borrow)
        _at_most("spend", "spends USDC of", bought_with, expectation.usdc_outlay + draft.borrowed)
        quoted = sum(swap.quoted_out for swap in draft.swaps)
        _at_most("deposit", "deposits", draft.deposited, quoted)
    if expectation.op in SELLING:
        _at_most("sale", "sells", sold, int(expectation.max_asset_in * (1 + SLACK)))
    if expectation.op is Operation.REPAY_DEBT:
        if draft.repaid >= ALL:
            raise Violation("repay", "the build repays everything, asked for an amount")
        _at_most("repay", "repays", draft.repaid, expectation.usdc_outlay)
    if expectation.op is Operation.WITHDRAW:
        _at_most("withdraw", "sends lamports of", draft.sent_lamports, expectation.withdraw_lamports)
        _at_most("withdraw", "sends USDC of", draft.sent_usdc, expectation.withdraw_usdc)


def _at_most(rule: str, what: str, found: int, limit: int) -> None:
    if found > limit:
        raise Violation(rule, f"the build {what} {found} base units, the limit is {limit}")
