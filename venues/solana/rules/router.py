"""Routers: they swap between our own accounts, at a price that they cannot undercut, for a bounded fee.

On the way in every step of a route must be understood. On the way out it need not be: the amounts stand at fixed places, and
where a step that is not understood stands before them, every way in which the program could read them must be within bounds.
"""

from __future__ import annotations

from decimal import Decimal

from solders.pubkey import Pubkey

from evenkeel.units import BPS
from venues.solana.routes.calls import DFLOW_FORMS, JUPITER_FORMS, Amounts, Form, read_call
from venues.solana.routes.layouts import Unreadable
from venues.solana.rules.bounds import tolerance_of
from venues.solana.rules.common import (
    ATA,
    BUYING,
    DFLOW,
    JUPITER,
    SELLING,
    SYSTEM,
    TOKEN,
    USDC_MINT,
    Draft,
    Step,
    Swap,
)
from venues.solana.rules.token import own_mint, token_state
from venues.solana.view import Violation

RULE = "router"
FORMS = {JUPITER: JUPITER_FORMS, DFLOW: DFLOW_FORMS}


def check_router(step: Step, draft: Draft) -> None:
    """Check one route of Jupiter or DFlow. Raises `Violation`; the sums of all routes are judged at the end."""
    expectation = draft.expectation
    if expectation.op not in BUYING | SELLING:
        raise Violation("operation", f"a swap is no part of {expectation.op}")
    head = step.data[:8]
    form = FORMS[step.program].get(head)
    if form is None:
        raise Violation(
            "discriminator", f"instruction {step.index}: {head.hex()} of the router is not allowed"
        )
    mints = _check_accounts(step, draft, form)
    try:
        call = read_call(form, step.data, draft.rules.routes)
    except Unreadable as odd:
        raise Violation(RULE, f"a route cannot be read: {odd}") from None
    if call.not_understood is not None:
        _note(draft, f"a route through {call.not_understood}")
    amounts = call.amounts
    asked = min(expectation.slippage_bps, draft.rules.slippage_cap_bps)
    if amounts.slippage_bps > asked:
        raise Violation("slippage", f"a route with slippage of {amounts.slippage_bps} bps, asked for {asked}")
    if amounts.fee_bps > draft.rules.router_fee_cap_bps:
        cap = draft.rules.router_fee_cap_bps
        raise Violation("router-fee", f"a platform fee of {amounts.fee_bps} bps, the cap is {cap}")
    if amounts.fee_bps:
        _check_fee_account(step, draft, form, mints)
    for other in call.readings[1:]:
        if not _is_harmless(other, draft, _spendable(step, draft, form)):
            raise Violation(
                RULE, f"behind {call.not_understood} a route's amounts can be read in more than one way"
            )
    draft.swaps.append(_swap(amounts, buys_asset=mints[1] == expectation.asset_mint))


def _note(draft: Draft, what: str) -> None:
    """What is not understood is refused on the way in, and a warning on the way out."""
    if not draft.expectation.is_exit:
        raise Violation(RULE, f"{what}: nothing is opened through what is not understood")
    draft.warnings.append(what)


def _check_accounts(step: Step, draft: Draft, form: Form) -> tuple[Pubkey, Pubkey]:
    """What is sold and what is bought, both in accounts of ours. Raises `Violation`."""
    slots, expectation = form.slots, draft.expectation
    wallet = step.account(slots.authority)
    programs = [step.account(slot) for slot in slots.token_programs]
    if wallet != draft.wallet or any(one != TOKEN for one in programs):
        raise Violation("authority", f"a route by {wallet} under token program {programs[0]}")
    buys, sells = (USDC_MINT, expectation.asset_mint), (expectation.asset_mint, USDC_MINT)
    wanted = buys if expectation.op in BUYING else sells
    if form.router == "dflow":
        if (step.account(1), step.account(2)) != (ATA, SYSTEM):
            raise Violation("accounts", f"instruction {step.index} is no swap of DFlow's shape")
        if slots.destination is None:
            _note(draft, "a swap of DFlow that names no destination")
            return wanted
        if slots.owner is not None and step.account(slots.owner) != draft.wallet:
            raise Violation("authority", f"a route pays out for {step.account(slots.owner)}")
    assert slots.destination is not None and slots.mint is not None
    destination = step.account(slots.destination)
    target = JUPITER if slots.target is None else step.account(slots.target)
    if target != JUPITER:
        own_mint(draft, target)  # an account that the output goes to instead
        if target != destination:
            raise Violation("token-owner", f"a route pays into {target} besides {destination}")
    bought = own_mint(draft, destination)
    sold = wanted[0] if slots.source is None else own_mint(draft, step.account(slots.source))
    for slot, mint, what in ((slots.mint, bought, "output"), (slots.source_mint, sold, "input")):
        if slot is not None and step.account(slot) != mint:
            raise Violation(
                "mint", f"a route names {what} mint {step.account(slot)}, its account holds {mint}"
            )
    if (sold, bought) != wanted:
        raise Violation("mint", f"a route from {sold} to {bought} is no part of {expectation.op}")
    return sold, bought


def _check_fee_account(step: Step, draft: Draft, form: Form, mints: tuple[Pubkey, Pubkey]) -> None:
    """The fee goes to an account that was pinned; nobody is pinned by default. Raises `Violation`."""
    pinned = draft.rules.fee_receivers
    if form.slots.fee is not None:
        receivers = [step.account(form.slots.fee)]
    else:  # it stands among the remaining accounts, in a place that nobody has published
        receivers = [one for one in step.accounts if one in pinned]
    if not receivers or receivers[0] not in pinned:
        shown = receivers[0] if receivers else "an account that is not named"
        raise Violation(
            "router-fee",
            f"a platform fee goes to {shown}, which is not among the pinned fee accounts; if it is the venue's, "
            "pin it with `evenkeel routes add fee-account`",
        )
    state = token_state(draft.view.account(receivers[0]))
    if state is None or state.mint not in mints:
        raise Violation(
            "router-fee", f"a platform fee goes to {receivers[0]}, which is no account of the swapped tokens"
        )
    draft.fee_receivers.add(receivers[0])


def _swap(amounts: Amounts, *, buys_asset: bool) -> Swap:
    paid, quoted, slippage, fee = amounts.amount_in, amounts.quoted_out, amounts.slippage_bps, amounts.fee_bps
    if amounts.exact_out:
        most = -(-(paid or 0) * (BPS + slippage) // BPS)
        return Swap(buys_asset, paid, most, quoted, quoted * (BPS - fee) // BPS)
    return Swap(buys_asset, paid, paid, quoted, quoted * (BPS - slippage) * (BPS - fee) // BPS**2)


def _spendable(step: Step, draft: Draft, form: Form) -> int:
    """Most of the sold token that can be in our account when the route runs."""
    source = form.slots.source
    state = None if source is None else token_state(draft.view.account(step.account(source)))
    return (state.amount if state else 0) + 2 * draft.expectation.max_asset_in


def _is_harmless(amounts: Amounts, draft: Draft, spendable: int) -> bool:
    """Whether the program would refuse these amounts, or give away no more by them than an order may."""
    expectation, price = draft.expectation, draft.expectation.price_usd
    paid = amounts.amount_in
    if max(amounts.slippage_bps, amounts.fee_bps) > BPS or (
        paid is not None and not amounts.exact_out and not 0 < paid <= spendable
    ):
        return True
    if price is None or expectation.op not in SELLING:
        return False
    swap = _swap(amounts, buys_asset=False)
    most = min(swap.most_in if swap.most_in is not None else spendable, spendable)
    fair = most * price.scaleb(6 - expectation.asset_decimals)
    return swap.least_out >= fair * (1 - tolerance_of(expectation, draft.rules))


def settle_amounts(draft: Draft) -> None:
    """Put what is paid into swaps that do not say it: all that there is to swap. Raises `Violation` for more than one."""
    silent = [number for number, swap in enumerate(draft.swaps) if swap.amount_in is None]
    if not silent:
        return
    if len(draft.swaps) > 1:
        raise Violation(RULE, "a swap beside others that does not say how much it sells")
    expectation, swap = draft.expectation, draft.swaps[0]
    whole = expectation.usdc_outlay + draft.borrowed if swap.buys_asset else expectation.max_asset_in
    draft.swaps[0] = Swap(swap.buys_asset, whole, whole, swap.quoted_out, swap.least_out)


def check_price(draft: Draft) -> None:
    """Check every swap's least output against the independent price. An exit for which none was ever known goes by the
    slippage cap alone.
    """
    expectation, price = draft.expectation, draft.expectation.price_usd
    if not draft.swaps or (price is None and expectation.is_exit):
        return
    if price is None or price <= 0:
        raise Violation("price", "no independent price to compare the swap with")
    floor = 1 - tolerance_of(expectation, draft.rules)
    usdc_per_unit = price.scaleb(6 - expectation.asset_decimals)
    for swap in draft.swaps:
        paid = swap.paid_at_most
        fair = paid / usdc_per_unit if swap.buys_asset else paid * usdc_per_unit
        if swap.least_out < fair * floor:
            raise Violation(
                "price",
                f"a swap of {paid} may give as little as {swap.least_out}, "
                f"{Decimal(swap.least_out) / fair:.4f} of its fair worth; the floor is {floor:.4f}",
            )
