"""The product as a process of its own: forked from a process that has imported everything, killed like any other.

What runs are the stories behind the commands (`app.actions`), with settings from a file, as `evenkeel …` runs them.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx._transports.default as transports

from app import actions
from evenkeel.errors import EvenkeelError
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings, load_settings, settings_path
from flows.carry.monitor import MonitorRequest, watch_position
from tasks.carry.desk import open_desk
from tasks.desk import make_clock

Step = tuple[str, dict[str, Any]]
"""A story and its arguments, e.g. ("exit", {"reason": "asked for"}); or ("evenkeel", {"arguments": [...]}): the command
itself, in a Python that has imported nothing yet."""
Hook = Callable[[], None]
_SIGKILL_ON_PARENT_DEATH = 1
PATIENCE_S = 90.0
# Every client reads the certificates of the whole world first, 20 ms each; here they all talk to loopback.
transports.create_ssl_context = functools.lru_cache(transports.create_ssl_context)


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (below zero: the signal) and, for each story told to its end, its answer."""

    code: int
    answers: list[dict[str, Any]]
    err: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def last_words(self) -> str:
        lines = [line for line in self.err.strip().splitlines() if "DEBUG" not in line]
        return " | ".join(lines[-3:])[-600:]


class Program:
    """One running process. `prepare` is called inside it, before its stories begin."""

    def __init__(
        self,
        folder: Path,
        name: str,
        steps: list[Step],
        config: Path,
        environment: dict[str, str] | None = None,
        prepare: Hook | None = None,
    ) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self.pid = os.fork()
        if self.pid == 0:
            _live(self._out, self._err, folder, config, steps, environment or {}, prepare)
        self._done = False

    def kill(self) -> None:
        """SIGKILL, now."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if not self._done:
            os.kill(self.pid, number)

    async def end(self, patience_s: float = PATIENCE_S) -> Ended:
        """Wait for the end of the process. One that does not end is killed and reported as a time-out."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        watched = os.pidfd_open(self.pid)
        loop.add_reader(watched, gone.set)
        overdue = False
        try:
            await asyncio.wait_for(gone.wait(), patience_s)
        except TimeoutError:
            overdue = True
            self.kill()
            await gone.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222 (it has ended)
        self._done = True
        told = self._out.read_text() if self._out.exists() else ""
        answers = _answers(told)
        err = self._err.read_text() if self._err.exists() else ""
        code = os.waitstatus_to_exitcode(status)
        if overdue:
            return Ended(124, answers, err + f"\nthe process did not end within {patience_s:.0f} s")
        return Ended(code, answers, err)


def _answers(told: str) -> list[dict[str, Any]]:
    """One JSON object a line from stories; one over many lines from a command."""
    if told.startswith("{\n"):
        return [json.loads(told)]
    return [json.loads(line) for line in told.splitlines() if line.endswith("}")]


class Misbehaved(AssertionError):
    """A process ended as it must not, or the moment of a scenario never came."""


def misbehaved(done: Ended, *, killed: bool = False) -> list[tuple[str, str]]:
    """A process may be killed when it is meant to be, and may give up with an error of ours that is no bug."""
    if killed:
        return [] if done.killed else [("other", f"it outlived a SIGKILL: {done.code}")]
    last = str(done.answers[-1].get("error", "")) if done.answers else ""
    if done.code not in (0, 1, 2) or last.startswith("Bug:"):
        return [("other", f"the process ended with {done.code}: {last or done.last_words}")]
    return []


def words(done: Ended) -> str:
    if done.killed:
        return "killed"
    last = done.answers[-1] if done.answers else {}
    return json.dumps(
        {key: last[key] for key in ("status", "action", "reasons", "reason", "error", "clean") if key in last}
    )


def _live(
    out: Path,
    err: Path,
    folder: Path,
    config: Path,
    steps: list[Step],
    environment: dict[str, str],
    prepare: Hook | None,
) -> None:
    """In the new process: nothing of the old one is used but its code. Never returns."""
    code = 70
    try:
        ctypes.CDLL(None).prctl(_SIGKILL_ON_PARENT_DEATH, signal.SIGKILL)
        os.closerange(3, 1024)  # sockets of the twins would stay open in here, and hang-ups would go unseen
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith(("EVENKEEL_", "PREFECT_"))]:
            del os.environ[name]
        os.environ.update(environment)
        os.environ["EVENKEEL_CONFIG"] = str(config)
        # Everything that anybody logs, so that a key in a log line would be found.
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s", force=True)
        for loud in ("hpack", "asyncio", "aiosqlite", "websockets"):
            logging.getLogger(loud).setLevel(logging.WARNING)
        if prepare is not None:
            prepare()
        code = _tell(steps)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(steps: list[Step]) -> int:
    if steps[0][0] == "evenkeel":
        command = [sys.executable, "-m", "app.cli", *steps[0][1]["arguments"], "--json"]
        os.execv(sys.executable, command)
    settings = load_settings(settings_path())
    for name, arguments in steps:
        try:
            answer = asyncio.run(STORIES[name](settings, **arguments))
        except EvenkeelError as error:
            traceback.print_exc()
            sys.stdout.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
            return 1
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
    return 0


async def _bare(settings: Settings, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """No Prefect: the story is told by itself."""
    return None


async def _enter(settings: Settings, **wish: Any) -> dict[str, Any]:
    return await actions.enter(settings, wish, _bare)


async def _exit(settings: Settings, **wish: Any) -> dict[str, Any]:
    wished = {"position_id": None, "reason": "asked for by the operator", "emergency": False} | wish
    return await actions.exit_(settings, wished)


async def _rebalance(settings: Settings) -> dict[str, Any]:
    return await actions.rebalance(settings, None, _bare)


async def _recover(settings: Settings) -> dict[str, Any]:
    return await actions.recover(settings)


async def _flatten(settings: Settings) -> dict[str, Any]:
    return await actions._flatten(settings, "a drill", 300.0)


async def _status(settings: Settings) -> dict[str, Any]:
    return await actions.status(settings)


async def _watch(settings: Settings, seconds: float, interval_s: float = 30.0) -> dict[str, Any]:
    """The monitor for so long, of world time."""
    async with open_desk(settings) as desk:
        until = desk.clock.now_ms() + int(seconds * 1000)
        result = await watch_position(desk, MonitorRequest(interval_s=interval_s, until_ms=until))
    return actions.dump(result)


async def _rest(settings: Settings, seconds: float) -> dict[str, Any]:
    """World time passes."""
    await make_clock(settings).sleep(seconds)
    return {"rested_s": seconds}


async def _level(settings: Settings) -> dict[str, Any]:
    """One look at every position that is open, acted upon, as the monitor would."""
    async with open_desk(settings) as desk:
        held = [one.position_id for one in desk.store.carry.positions([PositionStatus.OPEN])]
    return {one: await actions.rebalance(settings, one, _bare) for one in held}


async def _collect(settings: Settings) -> dict[str, Any]:
    return await actions.collect(settings, _bare)


STORIES: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "enter": _enter,
    "exit": _exit,
    "rebalance": _rebalance,
    "recover": _recover,
    "status": _status,
    "flatten": _flatten,
    "watch": _watch,
    "rest": _rest,
    "level": _level,
    "collect": _collect,
}
