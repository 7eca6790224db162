"""What begins to live while a host runs and is watched by nobody: a position that was entered at a terminal, the first account
that was deployed. At its start a host asks for a watch of all that lives; this is about what comes later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.handover import Watch, have_watched
from flows.running import ledger_for_run
from state.store import Store

log = logging.getLogger("evenkeel.monitor")
UNSEEN_S = 20.0
"""Wall seconds in which somebody must have looked at it: a run that enters asks for a watch itself, a person may start one."""
AGAIN_S = 5.0
"""Wall seconds between two looks into the ledger."""
TICKS_MS = 60_000
"""Of the ledger's clock: twice the pace of a calm watch. One that ticked so short before is somebody's who goes on."""
OCCASION_MS = 600_000
"""Hosts that ask within the same ten minutes of the ledger's clock get one run."""


@dataclass
class Begun:
    """Each subject is asked for once while it lives. One whose watch a person has cancelled is not asked for again."""

    watches: Iterable[Watch]
    watched: set[tuple[str, str]] = field(default_factory=set)
    """Deployment and subject of what somebody looks at, or was asked to."""
    _noticed: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    """Of what nobody has looked at yet: when it was found, in seconds of `time.monotonic` and by the ledger's clock."""

    def known(self, store: Store) -> None:
        """All that lives now is watched, or asked for, by others. Raises Retryable while the ledger is busy."""
        self.watched |= {(one.deployment, subject) for one in self.watches for subject in one.live(store)}

    def unseen(self, store: Store, now_s: float) -> list[tuple[Watch, str]]:
        """What lives and was looked at by nobody for `UNSEEN_S`. Raises Retryable while the ledger is busy."""
        found, live = [], set()
        for watch in self.watches:
            for subject in watch.live(store):
                key = (watch.deployment, subject)
                live.add(key)
                if key in self.watched:
                    continue
                since_s, since_ms = self._noticed.setdefault(key, (now_s, store.clock.now_ms()))
                if last_tick_ms(store, subject) >= since_ms - TICKS_MS:
                    self.watched.add(key)
                elif now_s - since_s >= UNSEEN_S:
                    found.append((watch, subject))
        self.watched &= live
        self._noticed = {key: seen for key, seen in self._noticed.items() if key in live - self.watched}
        return found

    async def ask(self, store: Store, now_s: float) -> None:
        """Ask for a watch of what nobody looks at; again at the next look where Prefect did not answer."""
        for watch, subject in self.unseen(store, now_s):
            log.warning("%s began, and nobody looks at it: a watch is asked for", subject)
            occasion = f"begun-{store.clock.now_ms() // OCCASION_MS}"
            if await have_watched(watch, store, [subject], occasion, by_us=True):
                self.watched.add((watch.deployment, subject))


def last_tick_ms(store: Store, subject: str) -> int:
    """When a watch ticked last, ms UTC; 0 where none has. Heartbeats are named by the subject, behind what ticks perhaps."""
    ticks = (one.at_ms for one in store.heartbeats() if f":{one.name}".endswith(f":{subject}"))
    return max(ticks, default=0)


def watch_what_begins(begun: Begun) -> None:
    """For as long as this process runs. A ledger that cannot be read now is read at the next look."""
    log.warning("a watch of all that lives was asked for; what begins now is seen to")
    logged = ""
    while True:
        try:
            with ledger_for_run() as store:
                while True:
                    asyncio.run(begun.ask(store, time.monotonic()))
                    logged = ""
                    time.sleep(AGAIN_S)
        except Exception as fault:  # whatever it is, the next look is made
            if repr(fault) != logged:
                logged = repr(fault)
                log.warning("what begins is not seen: %s", logged)
        time.sleep(AGAIN_S)
