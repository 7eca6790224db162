"""Whether Solana is alive and what we take for granted there is true: slots, fees, mints, programs, redemption rates."""

from __future__ import annotations

from decimal import Decimal

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from evenkeel.errors import OperatorError, VenueRefused
from strategy.carry.limits import PROTOCOL_NAMES
from tasks.carry.fees import least_fee
from venues.asgard.mints import TOKENS
from venues.solana.rules import common as rules
from venues.solana.slots import slot_time_ms

GROUP = "solana"
WATCHED_S = 3.0
"""In which a living chain makes some seven slots."""
SLOW_SLOT_S, STALLED_SLOT_S = 0.6, 1.2
PROGRAMS = {"Token": rules.TOKEN, "Associated Token": rules.ATA}
LENDERS = {0: rules.MARGINFI, 1: rules.KAMINO, 2: rules.SAVE}


@check(GROUP, "slots advance")
async def slots(installation: Installation) -> Verdict:
    """A halted cluster still answers and calls itself healthy; only its slots show it."""
    rpc = installation.venues.long.rpc
    before = await rpc.get_slot("confirmed")
    await installation.clock.sleep(WATCHED_S)
    made = await rpc.get_slot("confirmed") - before
    if made <= 0:
        return fail(
            f"no slot was confirmed in {WATCHED_S:g} s, the last is {before}",
            "the chain or this node stands still: do not enter; look at status.solana.com, or set solana.rpc_url to another",
        )
    return ok(f"{made} slots in {WATCHED_S:g} s")


@check(GROUP, "slot time")
async def slot_time(installation: Installation) -> Verdict:
    """Measured by the node over its last minutes: how long a blockhash lives follows from it."""
    samples = await installation.venues.long.rpc.get_recent_performance_samples(5)
    slot_ms = slot_time_ms(samples)
    if slot_ms is None:
        return warn("the node gives no performance samples", "set solana.rpc_url to a node that keeps them")
    seconds = slot_ms / 1000
    detail = f"{slot_ms:.0f} ms a slot: a transaction lives for about {150 * seconds:.0f} s"
    if seconds > STALLED_SLOT_S:
        return fail(detail, "the chain is all but halted: do not enter now")
    return (
        warn(detail, "the chain is slow: closings take longer too") if seconds > SLOW_SLOT_S else ok(detail)
    )


@check(GROUP, "fee market")
async def fee_market(installation: Installation) -> Verdict:
    limits = installation.settings.limits
    fee = await least_fee(installation.venues.long, installation.settings.strategy.disabled_protocols)
    detail = f"an opening bids {fee} lamports, the cap is {limits.max_fee_lamports}"
    if fee > limits.max_fee_lamports:
        return warn(detail, "wait until fees have calmed down: entries are refused, exits may pay more")
    return ok(detail)


@check(GROUP, "mints")
async def mints(installation: Installation) -> Verdict:
    """Owner and decimals on chain, and the decimals that Asgard states."""
    long = installation.venues.long
    try:
        await long.check_mints()
        prices = await long.token_prices()
    except (OperatorError, VenueRefused) as wrong:
        return fail(
            str(wrong),
            "do not trade: check solana.rpc_url; a token's address or decimals are not what we know",
        )
    missing = [symbol for symbol in installation.settings.limits.allowed_long_assets if symbol not in prices]
    if missing:
        return warn(
            f"Asgard has no price for {', '.join(missing)}",
            "take them out of limits.allowed_long_assets, or wait until they are listed again",
        )
    return ok(f"{len(TOKENS)} mints are as known, prices for {', '.join(sorted(prices))}")


@check(GROUP, "programs")
async def programs(installation: Installation) -> Verdict:
    """The programs that we sign for are executable accounts of this chain."""
    disabled = installation.settings.strategy.disabled_protocols
    wanted = PROGRAMS | {
        PROTOCOL_NAMES[number]: program for number, program in LENDERS.items() if number not in disabled
    }
    accounts = await installation.venues.long.rpc.get_multiple_accounts([str(one) for one in wanted.values()])
    missing = [
        f"{name} ({program})"
        for (name, program), account in zip(wanted.items(), accounts, strict=True)
        if account is None or not account.executable
    ]
    if missing:
        return fail(
            f"no executable program at {', '.join(missing)}",
            "check that solana.rpc_url is of mainnet; disable a lender that has moved in strategy.disabled_protocols",
        )
    return ok(f"{', '.join(wanted)} are executable")


@check(GROUP, "redemption rates")
async def redemption(installation: Installation) -> Verdict:
    """What an LST is worth in SOL is read from its pool: without it neither exposure nor peg can be judged."""
    rates: dict[str, Decimal] = {}
    unknown = []
    for symbol in installation.settings.limits.allowed_long_assets:
        rate = await installation.venues.long.redemption_rate(symbol)
        if rate is None or rate <= 0:
            unknown.append(symbol)
        else:
            rates[symbol] = rate
    if unknown:
        return fail(
            f"the pool of {', '.join(unknown)} cannot be read",
            "check solana.rpc_url, or take the asset out of limits.allowed_long_assets",
        )
    return ok(", ".join(f"{symbol} {rate:.4f} SOL" for symbol, rate in rates.items()))
