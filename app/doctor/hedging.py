"""Whether fills can be hedged: the chain's node and cutoff, the order book's code, the broker's money, calendar and symbols."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from evenkeel.errors import UNREAD, OperatorError, words_of
from strategy.hedging.sessions import Market
from tasks.hedging.calendar import market
from tasks.hedging.desk import NO_ANSWER
from tasks.hedging.opening import hedging_desk
from tasks.hedging.rebalancing.carrying import waiting_rebalances
from tasks.hedging.rebalancing.proposing import BY_ITSELF

GROUP = "hedging"
OFF = "off (hedging.enabled is false)"


@dataclass
class _Opened:
    """What the checks found, read once: the desk cannot stay open between them."""

    chain: str = ""
    newest: str = ""
    broker: str = ""
    cash: str = ""
    market: Market = Market.UNKNOWN
    login: str = ""
    untradable: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


async def _read(installation: Installation) -> _Opened:
    """Open the desk, and read chain and broker; what one of them does not answer is a fault of its own. Raises OperatorError,
    UNREAD.
    """
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(
            hedging_desk(installation.settings, installation.clock, installation.store)
        )
        found = _Opened(chain=at.chain, broker=at.broker.name)
        try:
            cursor = at.desk.store.hedging.cursor(at.chain, at.contract)
            first = cursor.next_block if cursor else at.settings.chain.start_block
            window = await at.reader.window(first, 1)
            behind = 0 if window is None else window.newest - first + 1
            found.newest = f"{behind} blocks up to the cutoff are not read yet"
        except UNREAD as fault:
            found.faults["chain"] = words_of(fault)
        try:
            found.cash = f"{await at.broker.cash():.2f} USD of cash"
            found.untradable = [
                symbol for symbol in at.settings.symbols if not (await at.broker.asset(symbol)).tradable
            ]
        except NO_ANSWER as fault:
            found.faults["broker"] = words_of(fault)
        found.market = await market(at)
        if at.login is not None and (due := at.login.warning()) is not None:
            found.login = due.text
        return found


async def _found(installation: Installation) -> _Opened | Verdict:
    if not installation.settings.hedging.enabled:
        return ok(OFF)
    try:
        return await installation.once(GROUP, partial(_read, installation))
    except (OperatorError, *UNREAD) as wrong:
        return fail(words_of(wrong), "docs/hedging.md says what is set and how")


@check(GROUP, "chain of the order book")
async def chain(installation: Installation) -> Verdict:
    """The node's chain, the ledger's account, and that the cutoff can be read."""
    found = await _found(installation)
    if isinstance(found, Verdict):
        return found
    if "chain" in found.faults:
        return fail(found.faults["chain"], "see hedging.chain.rpc_url and hedging.chain.cutoff")
    return ok(f"{found.chain}: {found.newest}")


@check(GROUP, "broker")
async def broker(installation: Installation) -> Verdict:
    """Whether the broker answers with cash, and takes orders of every symbol; how old its login is."""
    found = await _found(installation)
    if isinstance(found, Verdict):
        return found
    if "broker" in found.faults:
        return fail(
            found.faults["broker"], f"see hedging.{found.broker.partition('-')[0]} and the broker's own page"
        )
    if found.untradable:
        return fail(f"{found.broker} takes no orders of {', '.join(found.untradable)}", "see hedging.symbols")
    if found.login:
        return warn(found.login, "`evenkeel auth schwab`")
    return ok(f"{found.broker}: {found.cash}")


@check(GROUP, "rebalances")
async def rebalances(installation: Installation) -> Verdict:
    """Which rebalances wait for a person, by the ledger alone; and whether `auto` is asked for by anybody."""
    settings = installation.settings.hedging
    if not (settings.enabled and settings.rebalance.enabled):
        return ok("off (hedging.rebalance.enabled is false)")
    store = installation.store
    if waits := waiting_rebalances(store):
        return warn(
            "; ".join(f"{name}: {what}" for name, what in waits.items()), "`evenkeel hedging rebalance list`"
        )
    under_way = ", ".join(one.name for one in store.hedging.rebalances(open_only=True))
    if not settings.rebalance.auto:
        return ok(under_way or "none is open; each is proposed by hand (rebalance.auto is false)")
    last_ms = next((one.at_ms for one in store.heartbeats() if one.name == BY_ITSELF), None)
    late_s = 3 * 60 * settings.rebalance.every_minutes
    age_s = None if last_ms is None else (installation.clock.now_ms() - last_ms) // 1000
    if age_s is None or age_s > late_s:
        since = "never was" if age_s is None else f"was last so {age_s} s ago"
        return warn(
            f"rebalance.auto is true, and what is out of its band {since} looked for by the schedule",
            "`python -m flows.serve` hosts it (rebalance-by-itself); without Prefect let a timer call `evenkeel hedging "
            "rebalance propose`",
        )
    return ok(under_way or f"none is open; looked for {age_s} s ago")


@check(GROUP, "calendar")
async def calendar(installation: Installation) -> Verdict:
    """Whether the broker's calendar says what today is: without it no hedge leaves."""
    found = await _found(installation)
    if isinstance(found, Verdict):
        return found
    if found.market is Market.UNKNOWN:
        return fail(f"{found.broker}'s calendar of today is not known", "no hedge leaves until it is")
    return ok(f"the market is {found.market}")
