"""What a swap may give away: the table of docs/rules.md, "What a swap may give away"."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.units import BPS, HOUR_MS
from venues.solana.rules.common import Expectation, Rules


def give_away(expectation: Expectation, rules: Rules) -> Decimal:
    """Return how far below the fair price a swap may end, pool fee included and slippage not, as a fraction.

    A way out gets what a way in gets. It gets more with each try that failed, up to a bound; in an emergency, where an LST may
    be sold far below its redemption value; and with the age of the price where the source is silent, up to another bound.
    """
    if not expectation.is_exit:
        return rules.price_tolerance
    if expectation.emergency:
        base = rules.exit_price_tolerance if expectation.is_sol else rules.exit_lst_tolerance
    else:
        failed = rules.price_tolerance + rules.failed_try_widening * expectation.failed_tries
        base = min(failed, max(rules.price_tolerance, rules.failed_tries_cap))
    aged = base + rules.stale_widening_hourly * expectation.price_age_ms / HOUR_MS
    return min(aged, max(base, rules.stale_tolerance_cap))


def tolerance_of(expectation: Expectation, rules: Rules) -> Decimal:
    """Return how far below the fair price the least that a swap delivers may be: what it may give away, and its slippage."""
    slippage = Decimal(min(expectation.slippage_bps, rules.slippage_cap_bps)) / BPS
    return give_away(expectation, rules) + slippage
