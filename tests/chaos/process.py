"""The product as a process of its own: forked from a process that has imported everything, killed like any other.

It runs steps: the functions behind the commands, as its business names them, with settings from a file.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import load_settings, settings_path
from tests.chaos import warm  # noqa: F401  (what is forked has it)
from tests.quicker import make_quick

Step = tuple[str, dict[str, Any]]
"""A step's name and its arguments, e.g. ("exit", {"reason": "asked for"}); or ("evenkeel", {"arguments": [...]}): the
command itself, in a Python that has imported nothing yet."""
StepFunction = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
"""Takes settings and the step's arguments; its answer can be written as JSON."""
Hook = Callable[[], None]
_SIGKILL_ON_PARENT_DEATH = 1
LIMIT_S = 90.0
"""Wall seconds after which a process that has not ended is killed and counts as hung."""
make_quick()


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (below zero: the signal), the answer of each step that came to its end, and stderr."""

    code: int
    answers: list[dict[str, Any]]
    err: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def last_lines(self) -> str:
        lines = [line for line in self.err.strip().splitlines() if "DEBUG" not in line]
        return " | ".join(lines[-3:])[-600:]


class ProductProcess:
    """One running process of the product. `functions` are what its steps may name; `prepare` is called inside it, before
    its first step. Of the files that are open here it keeps only `keep`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        steps: list[Step],
        functions: Mapping[str, StepFunction],
        config: Path,
        environment: dict[str, str] | None = None,
        prepare: Hook | None = None,
        keep: int = 2,
    ) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self.pid = os.fork()
        if self.pid == 0:
            _live(self._out, self._err, folder, config, steps, functions, environment or {}, prepare, keep)
        self._done = False

    def kill(self) -> None:
        """SIGKILL, now."""
        self._signal(signal.SIGKILL)

    def suspend(self) -> None:
        """SIGSTOP: it stands still until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if not self._done:
            os.kill(self.pid, number)

    async def end(self, limit_s: float = LIMIT_S) -> Ended:
        """Wait for the end of the process. One that does not end is killed and reported as a time-out."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        watched = os.pidfd_open(self.pid)
        loop.add_reader(watched, gone.set)
        overdue = False
        try:
            await asyncio.wait_for(gone.wait(), limit_s)
        except TimeoutError:
            overdue = True
            self.kill()
            await gone.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        return self.ended(f"the process did not end within {limit_s:.0f} s" if overdue else "")

    def ended(self, overdue: str = "") -> Ended:
        """Wait, without an event loop, for the end of a process that has no reason to live on. `overdue`: why it was killed."""
        _, status = os.waitpid(self.pid, 0)
        self._done = True
        answers = _answers(self._out.read_text() if self._out.exists() else "")
        err = self._err.read_text() if self._err.exists() else ""
        code = os.waitstatus_to_exitcode(status)
        if overdue:
            return Ended(124, answers, f"{err}\n{overdue}")
        return Ended(code, answers, err)


def _answers(out: str) -> list[dict[str, Any]]:
    """One JSON object a line from steps; one over many lines from a command."""
    if out.startswith("{\n"):
        return [json.loads(out)]
    return [json.loads(line) for line in out.splitlines() if line.endswith("}")]


class Misbehaved(AssertionError):
    """A process ended as it must not, or the call at which something should happen never came."""


def misbehaved(done: Ended, *, killed: bool = False) -> list[tuple[str, str]]:
    """A process may be killed when it is meant to be, and may give up with an error of ours that is no bug."""
    if killed:
        return [] if done.killed else [("other", f"it outlived a SIGKILL: {done.code}")]
    last = str(done.answers[-1].get("error", "")) if done.answers else ""
    if done.code not in (0, 1, 2) or last.startswith("Bug:"):
        return [("other", f"the process ended with {done.code}: {last or done.last_lines}")]
    return []


def summary(done: Ended) -> str:
    """The fields of the last answer that say what a process decided, as JSON; "killed" for one that was."""
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
    functions: Mapping[str, StepFunction],
    environment: dict[str, str],
    prepare: Hook | None,
    keep: int,
) -> None:
    """In the new process: nothing of the old one is used but its code, and the file `keep`. Never returns."""
    code = 70
    try:
        ctypes.CDLL(None).prctl(_SIGKILL_ON_PARENT_DEATH, signal.SIGKILL)
        # Sockets of the twins would stay open in here, and hang-ups would go unseen.
        os.closerange(3, max(3, keep))
        os.closerange(max(2, keep) + 1, 1024)
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
        for noisy in ("hpack", "asyncio", "aiosqlite", "websockets"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if prepare is not None:
            prepare()
        code = _run(steps, functions)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(steps: list[Step], functions: Mapping[str, StepFunction]) -> int:
    if steps[0][0] == "evenkeel":
        command = [sys.executable, "-m", "app.cli", *steps[0][1]["arguments"], "--json"]
        os.execv(sys.executable, command)
    settings = load_settings(settings_path())
    for name, arguments in steps:
        try:
            answer = asyncio.run(functions[name](settings, **arguments))
        except EvenkeelError as error:
            traceback.print_exc()
            sys.stdout.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
            return 1
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
    return 0
