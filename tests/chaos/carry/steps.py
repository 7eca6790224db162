"""What a process of the product may be asked to do with a carry position: the functions behind the commands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

from app import actions
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.recover import recover_everything
from tasks.carry.desk import open_desk
from tasks.carry.mark import LIVE
from tasks.desk import make_clock
from tests.chaos.process import StepFunction


async def _bare(settings: Settings, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Runs a story without Prefect: the caller does it itself."""
    return None


async def _enter(settings: Settings, **request: Any) -> dict[str, Any]:
    return await actions.enter(settings, request, _bare)


async def _exit(settings: Settings, **request: Any) -> dict[str, Any]:
    defaults = {"position_id": None, "reason": "asked for by the operator", "emergency": False}
    return await actions.exit_(settings, defaults | request)


async def _rebalance(settings: Settings, wallet_kept_usd: str | None = None) -> dict[str, Any]:
    if wallet_kept_usd is not None:
        strategy = settings.strategy.model_copy(update={"wallet_kept_usd": Decimal(wallet_kept_usd)})
        settings = settings.model_copy(update={"strategy": strategy})
    return await actions.rebalance(settings, None, _bare)


async def _recover(settings: Settings) -> dict[str, Any]:
    return await actions.recover(settings)


async def _flatten(settings: Settings) -> dict[str, Any]:
    return await actions._flatten(settings, "a test", 300.0)


async def _status(settings: Settings) -> dict[str, Any]:
    return await actions.status(settings)


async def _watch(settings: Settings, seconds: float, interval_s: float = 30.0) -> dict[str, Any]:
    """The monitor for so long, of world time."""
    async with open_desk(settings) as desk:
        until = desk.clock.now_ms() + int(seconds * 1000)
        result = await watch_position(desk, MonitorRequest(interval_s=interval_s, until_ms=until))
    return actions.dump(result)


async def _tend(settings: Settings, seconds: float) -> dict[str, Any]:
    """What a supervised process does for so long, of world time: take up what is unfinished, then watch what is open."""
    async with open_desk(settings) as desk:
        until_ms = desk.clock.now_ms() + int(seconds * 1000)
        found = actions.dump(await recover_everything(desk))
        while desk.store.carry.positions(LIVE) and desk.clock.now_ms() < until_ms:
            await watch_position(desk, MonitorRequest(interval_s=30.0, until_ms=until_ms))
        held = {one.position_id: one.status for one in desk.store.carry.positions(LIVE)}
    return {"idle": not held, "recovered": found["positions"], "held": held}


async def _rest(settings: Settings, seconds: float) -> dict[str, Any]:
    """World time passes."""
    await make_clock(settings).sleep(seconds)
    return {"rested_s": seconds}


async def _level(settings: Settings) -> dict[str, Any]:
    """One tick at every position that is open, acted upon, as the monitor would."""
    async with open_desk(settings) as desk:
        held = [one.position_id for one in desk.store.carry.positions([PositionStatus.OPEN])]
    return {one: await actions.rebalance(settings, one, _bare) for one in held}


async def _collect(settings: Settings) -> dict[str, Any]:
    return await actions.collect(settings, _bare)


STEPS: dict[str, StepFunction] = {
    "enter": _enter,
    "exit": _exit,
    "rebalance": _rebalance,
    "recover": _recover,
    "status": _status,
    "flatten": _flatten,
    "watch": _watch,
    "tend": _tend,
    "rest": _rest,
    "level": _level,
    "collect": _collect,
}
