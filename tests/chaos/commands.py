"""Commands as real processes against twins behind a proxy, which reports when a request has arrived and when it was applied."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from app.demo import environment
from evenkeel.settings.settings import Settings, load_settings
from state.store import Store
from tests.databases import make_ledger
from tests.worlds import flat_world
from twins.faults import App, CallName, Message, Receive, Scope, Send
from twins.http import served
from twins.serve import RunningTwins, TwinOptions, running_twins

VENUES = ("hyperliquid", "solana", "asgard")
LIMIT_S = 60.0
"""Wall seconds for one command."""
_forkserver = multiprocessing.get_context("forkserver")
# A forked child skips three seconds of imports; it is a process of its own all the same, killed like any other.
_forkserver.set_forkserver_preload(
    ["app.cli", "app.actions", "flows.carry.enter", "flows.carry.recover", "tests.chaos.warm"]
)


@dataclass(frozen=True)
class Moment:
    """The `nth` call of this name: when it `arrived` and nothing of it is done, or when it was `applied` unanswered."""

    call: str
    nth: int
    when: str

    def __str__(self) -> str:
        return f"{self.call}#{self.nth} {self.when}"


@dataclass
class RequestProxy:
    """Stands before all twins. Counts calls by name; at its moment it holds the call for ever and sets `reached`."""

    moment: Moment | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def watch_for(self, moment: Moment | None) -> None:
        """Forget what was counted and wait for this moment."""
        self.moment, self.calls, self._seen = moment, [], Counter()
        self.reached, self._released = asyncio.Event(), asyncio.Event()

    def open(self) -> None:
        """Release what is held: its caller is dead."""
        self.moment = None
        self._released.set()

    def before(self, url: str, venue: str, call_name: CallName) -> App:
        """An ASGI app that passes requests on to a twin."""
        onward = httpx.AsyncClient(base_url=url, timeout=LIMIT_S, trust_env=False)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            body = await _whole(receive)
            name = f"{venue} {call_name(scope['method'], scope['path'], body)}"
            self._seen[name] += 1
            self.calls.append(name)
            here = Moment(name, self._seen[name], "")
            if await self._held(here, "arrived"):
                return
            headers = [pair for pair in scope["headers"] if pair[0] not in (b"host", b"content-length")]
            target = httpx.URL(onward.base_url.join(scope["raw_path"].decode()), query=scope["query_string"])
            answer = await onward.request(scope["method"], target, content=body, headers=headers)
            if await self._held(here, "applied"):
                return
            kept = [p for p in answer.headers.raw if p[0].lower() in (b"content-type", b"retry-after")]
            length = (b"content-length", str(len(answer.content)).encode())
            start: Message = {"type": "http.response.start", "status": answer.status_code}
            await send(start | {"headers": [*kept, length]})
            await send({"type": "http.response.body", "body": answer.content})

        return app

    async def _held(self, here: Moment, when: str) -> bool:
        """Whether this call was the moment; by the time that it is released nobody waits for its answer."""
        if self.moment != Moment(here.call, here.nth, when):
            return False
        self.reached.set()
        await self._released.wait()
        return True


async def _whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (below zero: the signal that killed it) and its output."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """One `evenkeel …` as a process of its own."""

    def __init__(
        self, arguments: list[str], folder: Path, name: str, environment: dict[str, str] | None = None
    ) -> None:
        self._paths = folder / f"{name}.out", folder / f"{name}.err"
        given = (arguments, *map(str, self._paths), str(folder), environment or {})
        self.process = _forkserver.Process(target=_child, args=given)
        self.process.start()

    def kill(self) -> None:
        """SIGKILL, now."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)

    async def end(self) -> Ended:
        """Wait for the end of the process."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.process.sentinel, done.set)
        try:
            await asyncio.wait_for(done.wait(), LIMIT_S)
        except TimeoutError:
            self.kill()
            raise
        finally:
            loop.remove_reader(self.process.sentinel)
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        return Ended(code, self._paths[0].read_text(), self._paths[1].read_text())


def _child(arguments: list[str], out: str, err: str, folder: str, environment: dict[str, str]) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.argv = ["evenkeel", *arguments]
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("EVENKEEL_", "PREFECT_"))]:
        del os.environ[name]
    os.environ.update(environment)
    from app.cli import main

    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass
class CommandRig:
    """Twins behind a proxy, settings on disk, an empty ledger."""

    folder: Path
    config: Path
    settings: Settings
    twins: RunningTwins
    proxy: RequestProxy
    _made: int = 0

    def start(self, *arguments: str) -> Command:
        """Start `evenkeel --config … <arguments>`."""
        self._made += 1
        return Command(["--config", str(self.config), *arguments], self.folder, f"command-{self._made}")

    async def run(self, *arguments: str) -> Ended:
        """Run a command to its end."""
        return await self.start(*arguments).end()

    async def kill_at(self, moment: Moment, *arguments: str) -> Ended:
        """Run a command until this moment, then SIGKILL. The moment must come."""
        self.proxy.watch_for(moment)
        command = self.start(*arguments)
        ended = asyncio.create_task(command.end())
        reached = asyncio.create_task(self.proxy.reached.wait())
        await asyncio.wait({ended, reached}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            reached.cancel()
            raise AssertionError(f"{moment} never came; the command ended by itself: {ended.result()}")
        command.kill()
        found = await ended
        self.proxy.open()
        assert found.code == -signal.SIGKILL, found
        return found

    def store(self) -> Store:
        """The ledger that the commands write."""
        return Store.open(self.settings.database.url, self.twins.world)  # type: ignore[arg-type]


RigType = TypeVar("RigType", bound=CommandRig)


@asynccontextmanager
async def command_rig(kind: type[RigType], folder: Path, strategy: dict[str, Any]) -> AsyncIterator[RigType]:
    """A rig of this class on a fresh market, with funded accounts and an empty ledger."""
    async with AsyncExitStack() as stack:
        twins = await stack.enter_async_context(running_twins(TwinOptions(stepped=True), world=flat_world()))
        proxy = RequestProxy()
        names = {
            "hyperliquid": twins.hyperliquid.call_name,
            "asgard": twins.asgard.call_name,
            "solana": _rpc_name,
        }
        direct = dict(twins.urls)
        for venue in VENUES:
            app = proxy.before(direct[venue], venue, names[venue])
            twins.urls[venue] = await stack.enter_async_context(served(app))
        config = environment.write_settings(folder, twins.announcement(), strategy, "")
        settings = load_settings(config)
        make_ledger(settings.database.url)
        yield kind(folder, config, settings, twins, proxy)
        proxy.open()


def _rpc_name(method: str, path: str, body: bytes) -> str:
    return f"rpc:{json.loads(body)['method']}" if body else f"{method} {path}"
