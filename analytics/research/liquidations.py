"""What a lender or a perpetual venue does to a simulated leg that has run out of margin, by each one's own rule.

Lender: a fifth of the debt a round, paid with collateral and a bonus. Perpetual: the book at the taker's fee, a fifth
first above 100,000 USD, and under two thirds of the maintenance margin the venue takes the position and what is left
(docs: trading/liquidations).
"""

from __future__ import annotations

from dataclasses import dataclass

from analytics.research.account import Account

LENDER_ROUND = 0.2
LENDER_WHOLE_USD = 2_000.0
"""Debt that is repaid in one round."""
PARTIAL_ABOVE_USD = 100_000.0
PARTIAL_SHARE = 0.2
BACKSTOP_SHARE = 2 / 3


@dataclass(frozen=True, slots=True)
class LenderRule:
    """When a lender takes collateral, and its bonus; fractions."""

    threshold: float
    """Loan-to-value at which it may."""
    penalty: float


def lender_distance(account: Account, rule: LenderRule) -> float | None:
    """Return the fall of the price, as a fraction, that liquidates the long; None without debt."""
    if account.debt_usd <= 0 or account.long_usd <= 0:
        return None
    return 1 - account.debt_usd / (account.long_usd * rule.threshold)


def short_distance(account: Account, maintenance: float) -> float | None:
    """Return the rise of the mark, as a fraction, that liquidates the short; None without one."""
    if account.short_qty <= 0:
        return None
    return (account.margin_usd / account.short_usd + 1) / (1 + maintenance) - 1


def liquidate_long(account: Account, rule: LenderRule) -> bool:
    """Liquidate round by round while the loan is too large. Return whether anything was taken."""
    taken = False
    while account.debt_usd > 0 and account.debt_usd >= account.long_usd * rule.threshold:
        taken = True
        whole = account.debt_usd <= LENDER_WHOLE_USD
        repaid = account.debt_usd if whole else account.debt_usd * LENDER_ROUND
        seized = min(repaid * (1 + rule.penalty), account.long_usd)
        account.tokens -= seized / (account.oracle_usd * account.redemption)
        account.debt_usd -= min(repaid, account.debt_usd)
        account.book("liquidation", repaid - seized)
        if account.long_usd <= 1e-9:
            account.book(
                "liquidation", account.debt_usd
            )  # what no collateral is left for is the lender's loss
            account.tokens = account.debt_usd = 0.0
    return taken


def liquidate_short(account: Account, maintenance: float, *, fee_bps: float, slippage_bps: float) -> bool:
    """Close what the margin no longer carries. Return whether anything was closed."""
    taken = False
    while account.short_qty > 0 and account.margin_usd < maintenance * account.short_usd:
        if account.margin_usd < BACKSTOP_SHARE * maintenance * account.short_usd:
            account.book("liquidation", -account.margin_usd)
            account.short_qty, account.margin_usd = 0.0, 0.0
            return True
        share = PARTIAL_SHARE if not taken and account.short_usd > PARTIAL_ABOVE_USD else 1.0
        taken = True
        before = dict(account.items)
        account.trade_short(-account.short_qty * share, fee_bps=fee_bps, slippage_bps=slippage_bps)
        cost = sum(account.items.values()) - sum(before.values())
        account.items = before | {"liquidation": before["liquidation"] + cost}
    return taken
