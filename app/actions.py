"""What each command does: a desk is opened, a story is run, and the answer comes back as plain JSON-able values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.loading import unswept
from evenkeel.legs import CARRY, PositionStatus

with unswept():
    from app.pages.rows import alert_row, breaker_row, last_tick, legs_of, pause_row, position_row
    from evenkeel.clock import as_datetime
    from evenkeel.errors import OperatorError
    from evenkeel.settings.settings import Settings
    from evenkeel.types import Frozen
    from state.store import Store
    from tasks.carry.books.recovery import Comparison, compare_legs, joined
    from tasks.carry.desk import (
        CarryDesk,
        check_keys,
        ledger_of,
        named_faults,
        noted_in,
        of_each,
        open_desk,
        open_desks,
    )
    from tasks.carry.last_ticks import rows_of
    from tasks.carry.mark import LIVE
    from tasks.carry.positions import position_meant
    from tasks.desk import LedgerFault, make_clock

if TYPE_CHECKING:
    from analytics.carry.report import Report

Q = TypeVar("Q", bound=BaseModel)
AsFlow = Callable[[Settings, str, Callable[[], Coroutine[Any, Any, Any]]], Awaitable[Any]]
"""Runs a flow where Prefect answers, and gives None where its story did not begin."""


TRADING = ("rebalance", "monitor")
"""Commands that act on a position; an entry checks its keys among its own checks."""


async def _run_story(
    settings: Settings,
    name: str,
    as_flow: AsFlow,
    flow: Callable[[], Coroutine[Any, Any, Any]],
    story: Callable[[CarryDesk], Awaitable[Any]],
    position_id: str | None = None,
    among: Sequence[PositionStatus] = (),
) -> dict[str, Any]:
    """The flow where Prefect is there, else the bare story. The desk is opened first: bad settings never reach a flow."""
    async with open_desk(settings, position_id=position_id, among=among) as desk:
        if name in TRADING:
            await check_keys(desk)
        result = await as_flow(settings, name, flow)
        if result is None:
            result = await story(desk)
    return dump(result)


def _request(kind: type[Q], **fields: Any) -> Q:
    """Return the request of a flow. Raises OperatorError, in one line, for fields that it cannot take."""
    try:
        return kind(**fields)
    except ValidationError as wrong:
        raise OperatorError("; ".join(_wording(one) for one in wrong.errors())) from None


def _wording(one: ErrorDetails) -> str:
    """What we say ourselves of a field, else what pydantic says."""
    ours = one.get("ctx", {}).get("error")
    return str(ours) if ours else f"{'.'.join(map(str, one['loc']))} {one['input']!r}: {one['msg']}"


def dump(result: Frozen) -> dict[str, Any]:
    """JSON-able fields of a result."""
    return result.model_dump(mode="json")


async def scan(
    settings: Settings, asset: str | None, leverage: str | None, size: str | None, as_flow: AsFlow
) -> dict[str, Any]:
    """Rank what could be entered."""
    from flows.carry import scan as flow

    request = _request(flow.ScanRequest, asset=asset, leverage=leverage, size_usd=size)
    return await _run_story(
        settings, "scan", as_flow, lambda: flow.scan(request), lambda desk: flow.scan_markets(desk, request)
    )


async def enter(settings: Settings, requested: dict[str, Any], as_flow: AsFlow) -> dict[str, Any]:
    """Open one position. What could never be entered is refused before anything is stored."""
    from flows.carry import enter as flow
    from tasks.carry.entering.choose import check_requested_entry

    request = _request(flow.EnterRequest, **requested)
    async with open_desk(settings) as desk:
        check_requested_entry(desk, flow.requested_entry_of(request))
    return await _run_story(
        settings,
        "enter",
        as_flow,
        lambda: flow.enter(request),
        lambda desk: flow.enter_position(desk, request),
    )


async def exit_(settings: Settings, requested: dict[str, Any]) -> dict[str, Any]:
    """Close one position. Never through Prefect: a way out waits for nobody. The ledger and `evenkeel status` show it."""
    from flows.carry import exit as flow

    request = flow.ExitRequest(**requested)
    async with open_desk(settings, position_id=request.position_id, among=flow.HELD) as desk:
        await check_keys(desk)
        return dump(await flow.exit_position(desk, request))


async def rebalance(settings: Settings, position: str | None, as_flow: AsFlow) -> dict[str, Any]:
    """Look once at one position and act on it."""
    from flows.carry import rebalance as flow

    request = flow.RebalanceRequest(position_id=position)
    return await _run_story(
        settings,
        "rebalance",
        as_flow,
        lambda: flow.rebalance(request),
        lambda desk: flow.rebalance_position(desk, request),
        position,
        flow.LEVELLED,
    )


async def monitor(
    settings: Settings, position: str | None, interval_s: float | None, as_flow: AsFlow
) -> dict[str, Any]:
    """Watch one position."""
    from flows.carry import monitor as flow
    from flows.carry.watch import watch_one

    request = flow.MonitorRequest(position_id=position, interval_s=interval_s)
    with _ledger(settings) as store:  # no run is begun, and handed over, for a position that is not there
        found = position_meant(store, position, LIVE)
    if settings.fleet:  # the account is the position's
        position = found.position_id
        request = flow.MonitorRequest(position_id=position, interval_s=interval_s)
    return await _run_story(
        settings,
        "monitor",
        as_flow,
        lambda: flow.monitor(request),
        lambda desk: watch_one(desk, request),
        position,
    )


async def collect(settings: Settings, as_flow: AsFlow) -> dict[str, Any]:
    """Collect once, of every account."""
    from flows.carry import collect as flow
    from tasks.carry.books.collect import collect_accounts

    faults: dict[str, str] = {}
    async with open_desks(settings, noted_in(faults)) as desks:
        result = await as_flow(settings, "collect", lambda: flow.collect())
        return dump(await collect_accounts(desks, faults) if result is None else result)


async def reconcile(settings: Settings, as_flow: AsFlow) -> dict[str, Any]:
    """Hold the books against both venues; act where a leg was taken."""
    from flows.carry import reconcile as flow

    faults: dict[str, str] = {}
    async with open_desks(settings, noted_in(faults)) as desks:
        able = [desk for desk, _ in await of_each(desks, check_keys, faults)]
        result = await as_flow(settings, "reconcile", lambda: flow.reconcile())
        if result is None:
            result = await flow.reconcile_accounts(able, faults)
    found = result.found
    return {
        "agrees": result.agrees and not faults,
        "rows": found.rows,
        "findings": [one.model_dump(mode="json") for one in found.findings],
        "actions": result.actions,
        "unreadable": found.unreadable | named_faults(faults),
    }


async def recover(settings: Settings) -> dict[str, Any]:
    """Take up what is unfinished. Never through Prefect: recovery must not wait for a server that may be what died."""
    from flows.carry.recover import recover_accounts

    faults: dict[str, str] = {}
    async with open_desks(settings, noted_in(faults)) as desks:
        able = [desk for desk, _ in await of_each(desks, check_keys, faults)]
        found = await recover_accounts(able, faults)
    return (
        {
            "positions": found.positions,
            "not_watched": list(found.not_watched),
            "unfinished_intents": found.unfinished_intents,
            "clean": found.clean,
        }
        | _comparison(found.comparison)
        | await _recovered_others(settings)
    )


async def _recovered_others(settings: Settings) -> dict[str, Any]:
    """What was taken up of the other businesses that are switched on."""
    found: dict[str, Any] = {}
    if settings.has_accounts:
        from app.accounts.operating import recover_accounts

        found["accounts"] = await recover_accounts(settings)
    if settings.hedging.enabled:
        from app.hedging.operating import recover_hedging

        found["hedging"] = await recover_hedging(settings)
    return found


def pause(
    settings: Settings, key: str, scope: str, reason: str, hours: float | None = None
) -> dict[str, Any]:
    """Halt a scope. Opens the ledger alone: no venue, no venue key."""
    from tasks import admin

    with _ledger(settings) as store:
        return pause_row(admin.pause(settings, store, key, scope, reason, hours))


async def watchdog(settings: Settings, *, once: bool) -> list[dict[str, Any]]:
    """Judge who looks at the live positions, once or until asked to end; the answer is how it stands then."""
    from app.watchdog import Watchdog

    with _ledger(settings) as store:
        dog = Watchdog(settings, store)
        await (dog.round() if once else dog.run())
        return rows_of(store, settings)


def resume(settings: Settings, key: str, scope: str | None, reason: str) -> dict[str, Any]:
    """End pauses. Opens the ledger alone."""
    from tasks import admin

    with _ledger(settings) as store:
        return {"resumed": [pause_row(one) for one in admin.resume(settings, store, key, scope, reason)]}


def acknowledge(settings: Settings, kind: str, subject: str | None, reason: str) -> dict[str, Any]:
    """Close alerts that a person has seen. Opens the ledger alone."""
    from tasks import admin

    with _ledger(settings) as store:
        return {"acknowledged": [alert_row(one) for one in admin.acknowledge(store, kind, subject, reason)]}


@contextmanager
def _ledger(settings: Settings) -> Iterator[Store]:
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        yield ledger_of(settings, store)
    finally:
        store.close()


def flatten(
    settings: Settings, reason: str, within_s: float, journal: Path | None, one_leg: bool = False
) -> dict[str, Any]:
    """The kill switch; with a journal, without the ledger. Imports nothing of Prefect."""
    return asyncio.run(
        _flatten(settings, reason, within_s, one_leg)
        if journal is None
        else _last_resort(settings, within_s, journal)
    )


async def _flatten(settings: Settings, reason: str, within_s: float, one_leg: bool = False) -> dict[str, Any]:
    from flows.carry import flatten as flow

    done, accounts = await asyncio.gather(
        flow.flatten(settings, reason, within_s, one_leg=one_leg),
        _flatten_accounts(settings, reason, within_s),
        return_exceptions=True,  # what fails of one business must not break off the other
    )
    if isinstance(done, LedgerFault):
        raise OperatorError(f"the ledger cannot be used: {done}; {flow.WITHOUT_LEDGER}") from done
    if isinstance(done, BaseException):
        raise done
    if isinstance(accounts, BaseException):
        raise accounts
    body = dump(done)
    if accounts is not None:
        body["positions"] |= accounts["trades"]
        body |= {"flat": body["flat"] and accounts["flat"], "left": [*body["left"], *accounts["left"]]}
    return body


async def _flatten_accounts(settings: Settings, reason: str, within_s: float) -> dict[str, Any] | None:
    """The kill switch of managed accounts; None where the business is off."""
    if not settings.has_accounts:
        return None
    from flows.accounts.flatten import flatten_accounts

    return dump(await flatten_accounts(settings, reason, within_s))


async def _last_resort(settings: Settings, within_s: float, journal: Path) -> dict[str, Any]:
    from tasks.carry.closing.last_resort import close_accounts_without_ledger

    done = await close_accounts_without_ledger(settings, make_clock, journal, within_s)
    after = "entries are not paused; once the ledger is back, `evenkeel flatten --all` closes the books"
    return {"flat": not done.left, "positions": {}, "left": list(done.left), "notes": [*done.notes, after]}


def _comparison(found: Comparison) -> dict[str, Any]:
    legs = [one.model_dump(mode="json") for one in found.unowned]
    return {"unowned_legs": legs, "unreadable": found.unreadable}


async def status(settings: Settings) -> dict[str, Any]:
    """Live positions, unfinished intents, and our legs against the venues'."""
    with unswept():
        from tasks.carry.watching import breakers

    faults: dict[str, str] = {}
    async with open_desks(settings, noted_in(faults)) as desks:
        store = desks[0].store if len(desks) == 1 and not faults else desks[0].store.whole
        compared = await of_each(desks, compare_legs, faults)
        broken = await of_each(desks, breakers.breaker_states, faults)
        comparison = joined([(desk.store.member, one) for desk, one in compared], faults)
        seen = {row["position_id"]: row for row in rows_of(store, settings)}
        return (
            {
                "at": as_datetime(store.clock.now_ms()).isoformat(),
                "positions": [
                    position_row(one)
                    | {"legs": legs_of(store, one)}
                    | last_tick(store, one, seen.get(one.position_id))
                    for one in store.carry.positions(LIVE)
                ],
                "unfinished_intents": [
                    {"intent_id": one.intent_id, "state": one.state, "venue": one.venue, "kind": one.kind}
                    for one in store.unfinished_intents(CARRY)
                ],
                "alerts": [alert_row(one) for one in store.alerts(open_only=True)],
                "pauses": [pause_row(one) for one in store.active_pauses()],
                "breakers": [
                    breaker_row(one) | ({"account": desk.store.member} if desk.store.member else {})
                    for desk, states in broken
                    for one in states
                ],
            }
            | _comparison(comparison)
            | _others_status(settings)
        )


def _others_status(settings: Settings) -> dict[str, Any]:
    """How the other businesses that are switched on stand, by the ledger alone."""
    if not settings.has_accounts and not settings.hedging.enabled:
        return {}
    from app.accounts.operating import accounts_status
    from app.hedging.operating import hedging_status

    with _ledger(settings) as store:
        accounts = {"accounts": accounts_status(store)} if settings.has_accounts else {}
        return accounts | ({"hedging": hedging_status(store)} if settings.hedging.enabled else {})


def positions(settings: Settings) -> list[dict[str, Any]]:
    """Every position of the ledger; no venue is asked."""
    with _ledger(settings) as store:
        return [position_row(one) for one in store.carry.positions()]


async def report(settings: Settings, position: str | None, out_dir: Path | None) -> tuple[Report, list[Path]]:
    """The account of one position."""
    from flows.carry.report import ReportRequest, account_for

    if out_dir is not None and out_dir.exists() and not out_dir.is_dir():
        raise OperatorError(f"--out {out_dir} is a file; give a folder for the pictures")
    async with open_desk(settings, position_id=position) as desk:
        request = ReportRequest(position_id=position, out_dir=None if out_dir is None else str(out_dir))
        return await account_for(desk, request)
