"""What must hold of managed accounts after any fault and a recovery: the chain compared with our books."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.settings.settings import load_settings
from state.accounts.models import AccountTrade, DeploymentState, TradeState
from state.accounts.store import ACCOUNTS
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.waiting import is_waiting
from tests.chaos.accounts.bed import PLATFORM, USER_USDC, AccountsBed
from tests.chaos.findings import Findings
from twins.ostium.deployment import MILLION

HELD = (TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
UNIT = Decimal("0.000001")


def check(bed: AccountsBed) -> Findings:
    """All invariants, now."""
    found = Findings()
    store = Store.open(load_settings(bed.config).database.url, bed.world)  # type: ignore[arg-type]
    try:
        _check_ends(found, bed, store)
        _check_trades(found, bed, store)
        _check_once(found, bed, store)
        _check_money(found, bed, store)
        _check_numbers(found, bed, store)
        _check_deployments(found, bed, store)
    finally:
        store.close()
    check_secrets(found, bed)
    return found


def _waiting(store: Store) -> list[AccountTrade]:
    return [one for one in store.accounts.trades(TradeState.PENDING) if is_waiting(one)]


def _check_ends(found: Findings, bed: AccountsBed, store: Store) -> None:
    """Nothing is under way but orders that wait for their price, each in its slot there and here."""
    there = {(one.trader, one.pair, one.index) for one in bed.venue.book.limits.values() if one.is_active}
    here = {(one.account, one.pair, one.place) for one in _waiting(store)}
    if there != here:
        found.add("lost record", f"orders wait at the venue in {there}, in the books in {here}")
    for intent in store.unfinished_intents(ACCOUNTS):
        found.add("unfinished", f"the {intent.kind} {intent.intent_id} is still {intent.state}")
    for trade in store.accounts.trades(TradeState.PENDING, TradeState.CLOSING, TradeState.STALE):
        if not is_waiting(trade) or trade.state is TradeState.STALE:
            found.add("unfinished", f"{trade.name} is still {trade.state}")


def _check_trades(found: Findings, bed: AccountsBed, store: Store) -> None:
    """No trade without a row, and no row without a trade; each holds what the venue says."""
    there = {str(one.id): one for one in bed.venue.book.open.values()}
    ours = {str(one.trade_id): one for one in store.accounts.trades(*HELD)}
    for name in there.keys() ^ ours.keys():
        found.add("unowned leg", f"trade {name} is open on the chain or in the books alone")
    for name in there.keys() & ours.keys():
        held = Decimal(there[name].collateral) / MILLION
        if abs(held - ours[name].collateral_usdc) > UNIT:
            found.add("lost record", f"trade {name} holds {held} there, {ours[name].collateral_usdc} here")


def _check_once(found: Findings, bed: AccountsBed, store: Store) -> None:
    """Each trade was opened by one order at most, and each intent took effect once."""
    opened = [one for one in bed.venue.book.orders.values() if one.action == "Open"]
    wanted = {row.name for row in store.accounts.trades()}
    if len(opened) > len(wanted):
        found.add("double open", f"{len(opened)} orders opened {len(wanted)} trades")
    closes = [one for one in bed.venue.book.orders.values() if one.action == "Close"]
    intents = [one for name in wanted for one in store.intents_of(ACCOUNTS, name)]
    asked = sum(one.kind == "close" for one in intents)
    if len(closes) > asked:
        found.add("double open", f"{len(closes)} closes were ordered, {asked} were asked for")


def _check_money(found: Findings, bed: AccountsBed, store: Store) -> None:
    """The user's wallet has changed by what the books say, and the platform has what was collected, each once."""
    accounts = store.accounts
    collected = sum((one.usdc for one in accounts.charges(ChargeState.COLLECTED)), Decimal(0))
    got = Decimal(bed.usdc(PLATFORM)) / MILLION
    if got != collected:
        found.add("lost record", f"the platform got {got} USDC, {collected} are booked as collected")
    if left := accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING):
        found.add("unfinished", f"{len(left)} charges are not paid: {left[0].why}")
    results = sum((one.result_usdc for one in accounts.trades()), Decimal(0))
    held = sum((one.paid_usdc for one in [*accounts.trades(*HELD), *_waiting(store)]), Decimal(0))
    changed = Decimal(bed.usdc(bed.user)) / MILLION - USER_USDC
    if abs(changed - (results - held - collected)) > UNIT:
        found.add(
            "lost record", f"the wallet changed by {changed}, the books say {results - held - collected}"
        )
    rows = [one.order_id for one in accounts.settlements() if one.is_live]
    if len(rows) != len(set(rows)):
        found.add("lost record", "an order is booked twice")


def _check_numbers(found: Findings, bed: AccountsBed, store: Store) -> None:
    """No gap: every number that was given is used."""
    for name, account in bed.keys.items():
        used = int(bed.venue.venue.node.rpc("eth_getTransactionCount", account.address, "latest"), 16)
        given = store.lanes.free(f"evm:{bed.chain.chain_id}:{account.address.lower()}")
        if used != given:
            found.add("other", f"the {name} key has used {used} numbers, {given} were given")


def _check_deployments(found: Findings, bed: AccountsBed, store: Store) -> None:
    """Nobody is traded for who does not let us, and whoever does is stored once for an agent."""
    delegate = str(bed.venue.venue.read("trading", "delegations", bed.user)).lower()
    lets_us = delegate == bed.keys["ostium"].address.lower()
    rows = store.accounts.deployments(account=bed.user)
    if len({one.agent_id for one in rows}) != len(rows):
        found.add("other", "a user is deployed twice with one agent")
    for one in rows:
        if (one.state is DeploymentState.REVOKED) is lets_us:
            found.add("other", f"{one.deployment_id} is {one.state}, the user's delegate is {delegate}")


def check_secrets(found: Findings, bed: AccountsBed) -> None:
    """No file of the scenario shows a key."""
    secrets = [bytes(one.key) for one in bed.keys.values()]
    needles = [form for one in secrets for form in (one, one.hex().encode(), one.hex().upper().encode())]
    for path in sorted(bed.folder.rglob("*")):
        if path.is_file() and path.parent.name != "keys":
            content = path.read_bytes()
            if any(needle in content for needle in needles):
                found.add("key shown", f"{path.name} contains key material")
