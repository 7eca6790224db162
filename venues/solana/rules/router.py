"""Jupiter's router: it swaps between our own accounts, at a price that it cannot undercut, for a bounded fee.

The data are read from the front: Anchor ignores what follows the arguments, so a forged quote at the end would deceive a
reader of the tail. The sizes of route steps are those of the program's published `Swap` type; an unknown one is refused.
"""

from __future__ import annotations

from decimal import Decimal

from solders.pubkey import Pubkey

from evenkeel.units import BPS, HOUR_MS
from venues.solana.rules.common import (
    BUYING,
    JUPITER,
    SELLING,
    TOKEN,
    USDC_MINT,
    Draft,
    Expectation,
    Rules,
    Step,
    Swap,
)
from venues.solana.rules.forms import anchor
from venues.solana.rules.token import own_mint, token_state
from venues.solana.view import Violation

RULE = "router"
_ONE_BYTE = (8, 12, 15, 16, 17, 18, 21, 23, 24, 27, 28, 39)
STEP_SIZES = {variant: 0 for variant in range(42)} | {variant: 1 for variant in _ONE_BYTE}
STEP_SIZES |= {29: 16, 33: 4, 41: 4, 43: 10, 44: 5, 45: 5, 46: 0}
"""Bytes of arguments behind the variant's own byte (Clone, 42, is published in two forms and therefore unknown)."""
MAX_STEPS = 8
ROUTE = anchor("route")
SHARED_ROUTE = anchor("shared_accounts_route")


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> int:
        if self._at + size > len(self._data):
            raise Violation(RULE, "the route's data end too early")
        value = int.from_bytes(self._data[self._at : self._at + size], "little")
        self._at += size
        return value

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)


def _arguments(data: bytes) -> tuple[int, int, int, int]:
    """(in, quoted out, slippage bps, platform fee bps)."""
    cursor = _Cursor(data)
    steps = cursor.take(4)
    if not 1 <= steps <= MAX_STEPS:
        raise Violation(RULE, f"a route of {steps} steps")
    for _ in range(steps):
        variant = cursor.take(1)
        if variant not in STEP_SIZES:
            raise Violation(RULE, f"a route through exchange kind {variant}, whose layout is not known here")
        cursor.take(STEP_SIZES[variant])
        cursor.take(3)  # percent, input index, output index
    found = cursor.take(8), cursor.take(8), cursor.take(2), cursor.take(1)
    if not cursor.at_end:
        raise Violation(RULE, "the route's data go on behind its arguments")
    return found


def check_router(step: Step, draft: Draft) -> None:
    """Check one route of Jupiter. Raises `Violation`; the sums of all routes are judged at the end."""
    head = step.data[:8]
    if head == ROUTE:
        token, wallet, source, destination, fee = (step.account(slot) for slot in (0, 1, 2, 3, 6))
        target, mint, arguments = step.account(4), step.account(5), _arguments(step.data[8:])
    elif head == SHARED_ROUTE:
        token, wallet, source, destination, fee = (step.account(slot) for slot in (0, 2, 3, 6, 9))
        target, mint, arguments = JUPITER, step.account(8), _arguments(step.data[9:])
    else:
        raise Violation(
            "discriminator", f"instruction {step.index}: {head.hex()} of the router is not allowed"
        )
    if token != TOKEN or wallet != draft.wallet:
        raise Violation("authority", f"a route by {wallet} under token program {token}")
    if target != JUPITER:
        own_mint(draft, target)  # an account that the output goes to instead
        if target != destination:
            raise Violation("token-owner", f"a route pays into {target} besides {destination}")
    sold, bought = own_mint(draft, source), own_mint(draft, destination)
    if bought != mint:
        raise Violation("mint", f"a route names output mint {mint}, its destination holds {bought}")
    _judge(step, draft, (sold, bought), arguments, fee)


def _judge(
    step: Step, draft: Draft, mints: tuple[Pubkey, Pubkey], arguments: tuple[int, int, int, int], fee: Pubkey
) -> None:
    expectation, rules = draft.expectation, draft.rules
    amount_in, quoted, slippage_bps, fee_bps = arguments
    buys, sells = (USDC_MINT, expectation.asset_mint), (expectation.asset_mint, USDC_MINT)
    if (expectation.op in BUYING and mints != buys) or (expectation.op in SELLING and mints != sells):
        raise Violation("mint", f"a route from {mints[0]} to {mints[1]} is no part of {expectation.op}")
    if expectation.op not in BUYING | SELLING:
        raise Violation("operation", f"a swap is no part of {expectation.op}")
    asked = min(expectation.slippage_bps, rules.slippage_cap_bps)
    if slippage_bps > asked:
        raise Violation("slippage", f"a route with slippage of {slippage_bps} bps, asked for {asked}")
    if fee_bps > rules.router_fee_cap_bps:
        raise Violation(
            "router-fee", f"a platform fee of {fee_bps} bps, the cap is {rules.router_fee_cap_bps}"
        )
    if fee != JUPITER and fee_bps:
        _check_fee_account(draft, fee, mints)
    least = quoted * (BPS - slippage_bps) * (BPS - fee_bps) // BPS**2
    draft.swaps.append(Swap(mints == buys, amount_in, quoted, least))


def _check_fee_account(draft: Draft, fee: Pubkey, mints: tuple[Pubkey, Pubkey]) -> None:
    if draft.rules.fee_accounts and fee not in draft.rules.fee_accounts:
        raise Violation(
            "router-fee", f"the platform fee goes to {fee}, which is not among the pinned fee accounts"
        )
    state = token_state(draft.view.account(fee))
    if state is None or state.mint not in mints:
        raise Violation(
            "router-fee", f"the platform fee goes to {fee}, which is no account of the swapped tokens"
        )
    draft.fee_receivers.add(fee)


def tolerance_of(expectation: Expectation, rules: Rules) -> Decimal:
    """Return how far below the fair price a swap may end, as a fraction; wider on the way out, wider still for an LST.

    A way out whose price source is silent goes by the last price known, the more loosely the older it is, up to a bound.
    """
    slippage = Decimal(min(expectation.slippage_bps, rules.slippage_cap_bps)) / BPS
    if not expectation.is_exit:
        return rules.price_tolerance + slippage
    fresh = slippage + (rules.exit_price_tolerance if expectation.is_sol else rules.exit_lst_tolerance)
    aged = fresh + rules.stale_widening_hourly * expectation.price_age_ms / HOUR_MS
    return min(aged, max(fresh, rules.stale_tolerance_cap))


def check_price(draft: Draft) -> None:
    """Check every swap's least output against the independent price. An exit for which none was ever known goes by the
    slippage cap alone.
    """
    price = draft.expectation.price_usd
    if not draft.swaps or (price is None and draft.expectation.is_exit):
        return
    if price is None or price <= 0:
        raise Violation("price", "no independent price to compare the swap with")
    floor = 1 - tolerance_of(draft.expectation, draft.rules)
    usdc_per_unit = price.scaleb(6 - draft.expectation.asset_decimals)
    for swap in draft.swaps:
        fair = swap.amount_in / usdc_per_unit if swap.buys_asset else swap.amount_in * usdc_per_unit
        if swap.least_out < fair * floor:
            raise Violation(
                "price",
                f"a swap of {swap.amount_in} may give as little as {swap.least_out}, "
                f"{Decimal(swap.least_out) / fair:.4f} of its fair worth; the floor is {floor:.4f}",
            )
