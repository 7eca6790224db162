"""Whether the accounts can trade: mode, agent, keys, money, margin, and what else they hold."""

from __future__ import annotations

from decimal import Decimal

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from evenkeel.errors import OperatorError
from evenkeel.types import VenueName
from tasks.carry.mark import UNDERLYING
from tasks.keys import refuse_readable_keys
from venues.asgard.mints import TOKENS
from venues.solana.rules.token import token_state

GROUP = "accounts"
MARGIN_WARNING = Decimal("0.5")
"""Share of the account value that the maintenance margin may take."""


@check(GROUP, "keys")
async def keys(installation: Installation) -> Verdict:
    """Both keys open, apart from each other, the agent's and not the account's own, and read by nobody else."""
    if (why := installation.problems.get("venues")) is not None:
        return fail(why, "mend what the line says, then run `evenkeel doctor` again")
    try:
        refuse_readable_keys(installation.settings)
    except OperatorError as readable:
        return fail(str(readable), "let their owner alone read these files, then run `evenkeel doctor` again")
    warnings = installation.venues.warnings
    if warnings:
        return warn("; ".join(warnings), "make it so that an attacker on this host could not withdraw")
    venues = installation.venues
    return ok(f"Hyperliquid account {venues.short.address}, Solana wallet {venues.long.wallet}")


@check(GROUP, "agent")
async def agent(installation: Installation) -> Verdict:
    short = installation.venues.short
    try:
        await short.check_agent()
    except OperatorError as wrong:
        return fail(str(wrong), "approve an agent with the account's own key, and set its key on this host")
    ours = short.signer_address
    if ours == short.address:
        return warn("the account's own key trades", "approve an agent: its key can trade and cannot withdraw")
    return ok(f"agent {ours} is approved")


@check(GROUP, "USDC on Hyperliquid")
async def margin_money(installation: Installation) -> Verdict:
    account = await installation.venues.short.account()
    return _enough(installation, account.free_margin_usd, "free margin on Hyperliquid", "deposit USDC there")


@check(GROUP, "USDC in the wallet")
async def wallet_money(installation: Installation) -> Verdict:
    wallet = await installation.venues.long.wallet_balances()
    address = installation.venues.long.wallet
    return _enough(installation, wallet.usdc, "USDC in the Solana wallet", f"send USDC to {address}")


def _enough(installation: Installation, have: Decimal, what: str, how: str) -> Verdict:
    """Enough for the collateral of the smallest position that may be opened."""
    settings = installation.settings
    least = settings.limits.min_position_usd / settings.strategy.leverage
    live = installation.ledger is not None and bool(installation.ledger.carry.open_legs())
    detail = f"{have:.2f} USD {what}; the smallest position needs {least:.2f}"
    if have >= least:
        return ok(detail)
    return warn(detail, f"{how} before the next entry") if live else fail(detail, how)


@check(GROUP, "margin on Hyperliquid")
async def margin(installation: Installation) -> Verdict:
    account = await installation.venues.short.account()
    if not account.total_notional_usd or account.maintenance_usd is None:
        return ok("no position needs margin")
    share = account.maintenance_usd / max(account.account_value_usd, Decimal("0.01"))
    detail = f"the maintenance margin takes {share:.0%} of the account's {account.account_value_usd:.2f} USD"
    if share > MARGIN_WARNING:
        return fail(detail, "deposit USDC on Hyperliquid, or `evenkeel rebalance`")
    return ok(detail)


@check(GROUP, "foreign positions")
async def foreign(installation: Installation) -> Verdict:
    """Positions on our accounts that the books do not have. They are never touched, but share margin and wallet."""
    venues = installation.venues
    legs = installation.ledger.carry.open_legs() if installation.ledger is not None else []
    mine = {(leg.venue, leg.ref) for leg in legs}
    known = [(int(leg.protocol or 0), leg.ref) for leg in legs if leg.venue == VenueName.ASGARD]
    views = [*await venues.short.legs(), *await venues.long.legs(known_pdas=known)]
    foreign = [view for view in views if (view.venue, view.ref) not in mine]
    answer = [f"{one.venue} {one.side.value} {one.qty:f} {one.asset}" for one in foreign]
    answer += [f"hyperliquid {coin}: {why}" for coin, why in venues.short.not_understood.items()]
    answer += [f"asgard {pda}: {why}" for pda, why in venues.long.not_understood.items()]
    if not answer:
        return ok("the accounts hold what the books hold")
    advice = (
        "use accounts that serve evenkeel alone; close or move these by hand, evenkeel never touches them"
    )
    if any(one.ref == UNDERLYING for one in foreign):
        return fail(
            f"not in the books: {', '.join(answer)}", f"{advice}. One account nets SOL: no entry is possible"
        )
    return warn(f"not in the books: {', '.join(answer)}", advice)


@check(GROUP, "token approvals")
async def approvals(installation: Installation) -> Verdict:
    """Nobody else may spend from, or close, a token account of the wallet."""
    long = installation.venues.long
    delegated, closable, count = list[str](), list[str](), 0
    for token in TOKENS.values():
        for address, account in await long.rpc.get_token_accounts(long.wallet, token.mint):
            count += 1
            state = token_state(account)
            if state is None:
                continue
            if state.delegate is not None:
                delegated.append(f"{token.symbol} account {address} has a delegate, {state.delegate}")
            if state.close_authority is not None and str(state.close_authority) != long.wallet:
                closable.append(f"{token.symbol} account {address} can be closed by {state.close_authority}")
    if not delegated and not closable:
        return ok(f"{count} token accounts, no delegate, no foreign close authority")
    advice = []
    if delegated:
        advice.append("revoke it with the wallet's key (`spl-token revoke ACCOUNT`)")
    if closable:
        advice.append(
            "only that key can give the right up (`spl-token authorize ACCOUNT close --disable`): else move to a new wallet"
        )
    return fail("; ".join(delegated + closable), f"{'; '.join(advice)}; and find out who asked for it")


@check(GROUP, "positions belong to these accounts")
async def owners(installation: Installation) -> Verdict:
    """The keys are those of the accounts that the live positions were opened with."""
    short, long = installation.venues.short, installation.venues.long
    live = [one for one in installation.store.carry.positions() if one.closed_ms is None]
    for position in live:
        for venue, theirs, ours in (
            (short.name, position.short_account, short.address),
            (long.name, position.long_account, long.wallet),
        ):
            if theirs and theirs != ours:
                return fail(
                    f"{position.position_id} was opened by {venue} {theirs}, the settings are those of {ours}",
                    "use the key and the account that opened it",
                )
    return ok(f"{len(live)} live positions")
