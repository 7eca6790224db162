"""One pass: ask about open orders, read the chain, decide, order, and say what stays open.

Level-triggered: each pass begins with the rows alone, so that a wake-up that was lost, a killed process and a second try are
the next pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evenkeel.errors import UNREAD
from state.hedging.models import Exposure
from state.models import Fence
from state.watch_models import Pause, Severity
from strategy.hedging.decision import is_over
from strategy.hedging.sessions import Market
from tasks.hedging.calendar import market
from tasks.hedging.deciding import Decisions, decide
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.orders import place, sweep
from tasks.hedging.reading import Progress, read_chain
from tasks.hedging.running.silence import HEARTBEAT, SILENT, is_said, last_good_ms
from tasks.hedging.running.sole import shared_with
from tasks.hedging.schwab_login import warn_of_age
from tasks.intents import Ending
from tasks.oddities import note_oddities

OPEN_TOO_LONG = "exposure open"
"""The alert of an exposure above its threshold that no order covers, with its age and what stands in the way."""
PAUSED = "hedging paused"
"""The alert of exposures above their thresholds that no order covers because a person has paused the hedging."""
REMOVED = "removed symbol open"
"""The alert of a symbol that is not in the settings any more and has an exposure: it is watched and not hedged."""
UNREAD_CHAIN = "chain unread"
"""The alert of a chain that could not be read for longer than the settings allow: fills are not seen."""


@dataclass
class PassReport:
    """What one pass came to. `orders` by symbol; `holds` says why a symbol over its threshold has no order."""

    market: Market = Market.UNKNOWN
    progress: Progress = field(default_factory=Progress)
    chain_fault: str = ""
    swept: dict[str, Ending | str] = field(default_factory=dict)
    orders: dict[str, Ending | str] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether the chain was read and every symbol could be decided by a calendar."""
        return not self.chain_fault and self.market is not Market.UNKNOWN


async def pass_once(at: HedgingDesk, fence: Fence | None) -> PassReport:
    """Do all of it once, with the lease `at.lease` held. Raises LostRace where another process has it, LedgerUnavailable where
    nothing can be stored; what one symbol or the broker does wrong is in the report, and what nobody could read of an answer is
    an alert.
    """
    try:
        return await _pass(at, fence)
    finally:
        note_oddities(at.desk)


async def _pass(at: HedgingDesk, fence: Fence | None) -> PassReport:
    report = PassReport()
    report.swept = await sweep(at, fence)
    try:
        report.progress = await read_chain(at, fence)
    except UNREAD as error:
        report.chain_fault = str(error)
    report.market = await market(at)
    if at.login is not None:
        warn_of_age(at.desk.store, at.login)
    decisions = await decide(at, report.market)
    if decisions.orders and (why := await shared_with(at)):
        decisions.holds |= dict.fromkeys(decisions.orders, why)
        decisions.orders = {}
    report.orders = await place(at, decisions.orders, fence)
    report.holds = decisions.holds
    exposures = at.desk.store.hedging.exposures()  # after the orders: what was filled at once is not open
    _say_paused(at, decisions.paused, exposures)
    _say_open(at, report, decisions, exposures)
    _say_removed(at, report, exposures)
    _note(at, report)
    return report


def _say_open(at: HedgingDesk, report: PassReport, decisions: Decisions, exposures: list[Exposure]) -> None:
    """Alert of what is over its threshold for too long while the market is open; what is not any more is over."""
    store, now = at.desk.store, at.desk.clock.now_ms()
    open_alerts = {one.subject for one in store.alerts(open_only=True) if one.kind == OPEN_TOO_LONG}
    for exposure in exposures:
        symbol = exposure.symbol
        if symbol not in at.settings.symbols:
            continue
        over = exposure.open_shares and is_over(exposure.open_shares, exposure.price_usd, at.rules(symbol))
        if over is False or not exposure.open_shares:
            if symbol in open_alerts:
                store.ack_alert(OPEN_TOO_LONG, symbol)
            continue
        if report.market is Market.CLOSED:
            continue  # it waits for the open by design
        oldest = store.hedging.oldest_open(symbol)
        age_s = (now - oldest.at_ms) // 1000 if oldest else 0
        if age_s < at.settings.alert_open_s:
            continue
        why = decisions.holds.get(symbol) or _why_open(at, symbol)
        store.alert(
            OPEN_TOO_LONG,
            Severity.CRITICAL,
            f"{exposure.open_shares:f} shares of {symbol} are open, the oldest fill for {age_s} s: {why}",
            subject=symbol,
        )


def _why_open(at: HedgingDesk, symbol: str) -> str:
    """What stands in the way of a symbol that was to be hedged in this pass."""
    hedging = at.desk.store.hedging
    if hedging.open_order(symbol) is not None:
        return "an order is open and not filled"
    blocked = hedging.blocked().get(symbol)
    return (
        f"its order was not taken: {blocked.why}" if blocked is not None else "its last order has just ended"
    )


def _say_paused(at: HedgingDesk, paused: Pause | None, exposures: list[Exposure]) -> None:
    """Alert of what a pause leaves open, at once and in any market; over with the pause, or with the last of it."""
    store = at.desk.store
    over = [
        f"{one.open_shares:f} shares of {one.symbol}"
        for one in (exposures if paused is not None else [])
        if one.symbol in at.settings.symbols
        and one.open_shares
        and is_over(one.open_shares, one.price_usd, at.rules(one.symbol))
    ]
    if paused is not None and over:
        store.alert(
            PAUSED,
            Severity.WARNING,
            f"hedging at {at.broker.name} is paused ({paused.scope}: {paused.reason}) with {', '.join(over)} open: no hedge "
            "leaves until `evenkeel resume`",
            subject=at.broker.name,
        )
    elif any(one.kind == PAUSED for one in store.open_alerts_of(at.broker.name)):
        store.ack_alert(PAUSED, at.broker.name)


def _say_removed(at: HedgingDesk, report: PassReport, exposures: list[Exposure]) -> None:
    store = at.desk.store
    said = {one.subject for one in store.alerts(open_only=True) if one.kind == REMOVED}
    for exposure in exposures:
        symbol = exposure.symbol
        if symbol in at.settings.symbols or not exposure.open_shares:
            if symbol in said:
                store.ack_alert(REMOVED, symbol)
            continue
        report.removed.append(symbol)
        store.alert(
            REMOVED,
            Severity.WARNING,
            f"{symbol} is not in the settings any more and {exposure.open_shares:f} shares of it are open: name it again to "
            "have them hedged, or hedge them by hand",
            subject=symbol,
        )


def _note(at: HedgingDesk, report: PassReport) -> None:
    """Keep when a pass was last good; say where none was for too long."""
    store, now = at.desk.store, at.desk.clock.now_ms()
    good_ms = now if report.succeeded else (last_good_ms(store) or now)
    detail = {
        "good_ms": good_ms,
        "market": str(report.market),
        "chain_fault": report.chain_fault,
        "behind": report.progress.behind,
        "holds": report.holds,
        "streams": {name: one.fault for name, one in at.streams.items()},
    }
    store.record_heartbeat(HEARTBEAT, detail)
    said = {one.kind for one in store.open_alerts_of(at.chain)}
    if report.chain_fault and now - good_ms >= at.settings.alert_silence_s * 1000:
        store.alert(
            UNREAD_CHAIN,
            Severity.CRITICAL,
            f"{at.chain} could not be read for {(now - good_ms) // 1000} s ({report.chain_fault}): fills since then are "
            "not seen",
            subject=at.chain,
        )
    elif not report.chain_fault and UNREAD_CHAIN in said:
        store.ack_alert(UNREAD_CHAIN, at.chain)
    if report.succeeded and is_said(store):
        store.ack_alert(SILENT, HEARTBEAT)
