"""The sums of a whole build: it contains what the order is for, and nothing is spent, withdrawn, sold or owed beyond that."""

from __future__ import annotations

from decimal import Decimal

from venues.solana.rules.bounds import tolerance_of
from venues.solana.rules.common import BUYING, MARGINFI, SELLING, Draft, Operation
from venues.solana.rules.holdings import holdings_of
from venues.solana.rules.router import settle_amounts
from venues.solana.view import Violation

SLACK = Decimal("0.001")
"""Interest runs between the quote and the landing; a sale may be this much larger than the holding we last saw, and a close
this much smaller.
"""
CONTENTS = "contents"


def check_amounts(draft: Draft) -> None:
    """Check the sums over all transactions. Raises `Violation` naming the sum that is too large or too small."""
    expectation = draft.expectation
    settle_amounts(draft)
    bought_with = sum(swap.paid_at_most for swap in draft.swaps if swap.buys_asset)
    sold = sum(swap.paid for swap in draft.swaps if not swap.buys_asset)
    if expectation.op in BUYING:
        _at_most("borrow", "borrows", draft.borrowed, expectation.max_borrow)
        _at_most("spend", "spends USDC of", bought_with, expectation.usdc_outlay + draft.borrowed)
        quoted = sum(swap.quoted_out for swap in draft.swaps)
        _at_most("deposit", "deposits", draft.deposited, quoted)
    if expectation.op in SELLING:
        _at_most("sale", "sells", sold, int(expectation.max_asset_in * (1 + SLACK)))
        _check_way_out(draft, sold)
    if expectation.op is Operation.REPAY_DEBT:
        if draft.repays_all:
            raise Violation("repay", "the build repays everything, asked for an amount")
        _at_most("repay", "repays", draft.repaid, expectation.usdc_outlay)
        _at_least("repays", draft.repaid, expectation.usdc_outlay)
    if expectation.op is Operation.WITHDRAW:
        _at_most("withdraw", "sends lamports of", draft.sent_lamports, expectation.withdraw_lamports)
        _at_most("withdraw", "sends USDC of", draft.sent_usdc, expectation.withdraw_usdc)


def _check_way_out(draft: Draft, sold: int) -> None:
    """A close withdraws, sells and repays everything; a smaller way out withdraws at most, and repays at least, its share."""
    expectation = draft.expectation
    if not draft.withdrawn and not draft.withdraws_all:
        raise Violation(CONTENTS, f"a {expectation.op} that withdraws nothing")
    if not sold:
        raise Violation(CONTENTS, f"a {expectation.op} that sells nothing")
    if expectation.owed_usdc and not draft.repaid and not draft.repays_all:
        raise Violation(CONTENTS, f"a {expectation.op} that repays nothing")
    withdrawn = _withdrawn_share(draft)
    if withdrawn > expectation.withdraw_share * (1 + SLACK):
        raise Violation(
            "withdrawal",
            f"the build withdraws {withdrawn:.4f} of the position, the order implies {expectation.withdraw_share:.4f}",
        )
    if expectation.op is Operation.CLOSE and withdrawn < 1 - SLACK:
        raise Violation(CONTENTS, f"a close that withdraws {withdrawn:.4f} of the position")
    sold_at_most = sum(swap.paid_at_most for swap in draft.swaps)
    _at_least("sells", sold_at_most, int(expectation.held_asset * withdrawn))
    if draft.repays_all:
        return
    _at_least("repays", draft.repaid, expectation.least_repaid)
    if expectation.op is Operation.DELEVERAGE:
        _at_least("repays", draft.repaid, min(_proceeds(draft, withdrawn), expectation.owed_usdc))


def _withdrawn_share(draft: Draft) -> Decimal:
    """The share of the deposit that is withdrawn, in the lender's own units: collateral tokens are not whole tokens."""
    if draft.withdraws_all:
        return Decimal(1)
    expectation = draft.expectation
    whole = expectation.held_asset
    if expectation.lender != MARGINFI and draft.position is not None:
        held = holdings_of(expectation.lender, draft.view.account(draft.position))
        if held is None:
            raise Violation("position", f"position {draft.position} is not readable as one of its lender's")
        whole = held.deposited
    if whole <= 0:
        raise Violation(CONTENTS, f"position {draft.position} holds nothing that could be withdrawn")
    return Decimal(draft.withdrawn) / whole


def _proceeds(draft: Draft, withdrawn: Decimal) -> int:
    """Least USDC that selling what is withdrawn must bring: a deleverage repays all of it."""
    expectation = draft.expectation
    if expectation.price_usd is None:
        return sum(swap.least_out for swap in draft.swaps)
    worth = expectation.held_asset * withdrawn * expectation.price_usd.scaleb(6 - expectation.asset_decimals)
    return int(worth * (1 - tolerance_of(expectation, draft.rules)))


def _at_most(rule: str, what: str, found: int, limit: int) -> None:
    if found > limit:
        raise Violation(rule, f"the build {what} {found} base units, the limit is {limit}")


def _at_least(what: str, found: int, wanted: int) -> None:
    if found < wanted * (1 - SLACK):
        raise Violation(CONTENTS, f"the build {what} {found} base units, the order implies {wanted}")
