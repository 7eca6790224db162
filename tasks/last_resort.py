"""Close what our accounts hold when the ledger cannot be used: the venues are asked what there is, and a file keeps the keys.

Why a second run, or a crash in between, cannot do harm: an order here only ever reduces the short that the venue shows, and
a close of a lending position is always of all of it. Whatever lands twice finds nothing left, so nothing has to be known
of an earlier order before the next is sent. The key is still on disk before anything leaves, so that it can be explained.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import OperatorError, Retryable, VenueRefused
from evenkeel.settings import Settings
from evenkeel.types import (
    Confirmed,
    Frozen,
    IntentKind,
    IntentSpec,
    LegSide,
    LegView,
    Signed,
    Unknown,
    VenueName,
)
from tasks.connect import Venues
from tasks.marks import COIN
from venues.asgard.orders import CloseLong
from venues.hyperliquid.orders import PerpOrder
from venues.protocol import LegVenue

AGAIN_S = 2.0
EARLIER_MS = 600_000
"""What a run of the last ten minutes signed is told of once more: nothing older can still land."""


class Emptied(Frozen):
    """`left`: what the venues still hold, or why they could not be asked. `notes`: what was done, and what is not ours."""

    left: tuple[str, ...]
    notes: tuple[str, ...]


class KeyFile:
    """Keys of what was signed, one JSON object a line, on disk before it is sent. It holds no secret."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, **row: Any) -> None:
        """Raises OperatorError where the file cannot be written: then nothing may be sent either."""
        try:
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
                file.write(json.dumps(row, default=str) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OperatorError(
                f"the key file {self.path} cannot be written ({error.strerror}): name another with --journal"
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """What earlier runs wrote; a line that a crash cut short is left out."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


async def empty_accounts(
    settings: Settings, venues: Venues, clock: Clock, journal: KeyFile, within_s: float
) -> Emptied:
    """Buy back the SOL short and close every lending position of our wallet, both at once, until the venues show none.

    Raises OperatorError where the key file cannot be written.
    """
    await clock.refresh()
    run = _Run(settings, venues, clock, journal, clock.now_ms() + int(within_s * 1000))
    since_ms = clock.now_ms() - EARLIER_MS
    earlier = [row for row in journal.rows() if row.get("what") == "signed" and row["at_ms"] >= since_ms]
    ends = await asyncio.gather(run.until_flat(run.short_once), run.until_flat(run.longs_once))
    left = tuple(text for end in ends for text in end)
    notes = [await run.fate(row) for row in earlier]
    return Emptied(left=left, notes=(*notes, *run.notes))


class _Run:
    def __init__(
        self, settings: Settings, venues: Venues, clock: Clock, journal: KeyFile, deadline_ms: int
    ) -> None:
        self._settings = settings
        self._venues = venues
        self._clock = clock
        self._journal = journal
        self._deadline_ms = deadline_ms
        self._step = 0
        self._tries: dict[LegSide, int] = {LegSide.LONG: 0, LegSide.SHORT: 0}
        self._run_id = f"flatten-{clock.now_ms()}"
        self.notes: list[str] = []

    async def until_flat(self, once: Callable[[], Awaitable[list[str]]]) -> list[str]:
        """Look and close again and again; what is left when nothing is, or when the time is up."""
        while True:
            try:
                left = await once()
            except (Retryable, VenueRefused) as hiccup:
                left = [str(hiccup)]
            if not left or self._clock.now_ms() >= self._deadline_ms:
                return left
            await self._clock.sleep(AGAIN_S)

    async def short_once(self) -> list[str]:
        """The short as the venue shows it; bought back if there is one."""
        held = [leg for leg in await self._venues.short.legs() if leg.ref == COIN]
        if not held:
            return []
        if held[0].side is not LegSide.SHORT:
            self._say(f"Hyperliquid holds {held[0].qty} SOL long, which is no leg of ours: not touched")
            return []
        order = PerpOrder(
            coin=COIN,
            is_buy=True,
            size=held[0].qty,
            reduce_only=True,
            slippage_bps=Decimal(self._bound_bps(LegSide.SHORT)),
        )
        await self._put(self._venues.short, LegSide.SHORT, order.model_dump(mode="json"))
        return [f"short of {leg.qty} SOL" for leg in await self._venues.short.legs() if leg.ref == COIN]

    async def longs_once(self) -> list[str]:
        """Every lending position that the lender lists for our wallet; each closed in full."""
        for leg in await self._venues.long.legs(self._known_pdas()):
            await self._put(self._venues.long, LegSide.LONG, self._close_order(leg))
        left = await self._venues.long.legs(self._known_pdas())
        return [f"{leg.qty} {leg.asset} in lending position {leg.ref}" for leg in left]

    def _close_order(self, leg: LegView) -> dict[str, Any]:
        order = CloseLong(
            asset=leg.asset,
            protocol=int(leg.protocol or 0),
            position_pda=leg.ref,
            slippage_bps=self._bound_bps(LegSide.LONG),
            jito_tip_lamports=self._settings.exit_tip_lamports(self._tries[LegSide.LONG], emergency=True),
        )
        return order.model_dump(mode="json")

    def _bound_bps(self, side: LegSide) -> int:
        return self._settings.limits.exit_slippage_bps(self._tries[side], emergency=True)

    def _known_pdas(self) -> list[tuple[int, str]]:
        """Lending positions that this file has seen closing: the lender may have dropped their rows already."""
        orders = [row.get("order", {}) for row in self._journal.rows()]
        return sorted(
            {(int(o["protocol"]), str(o["position_pda"])) for o in orders if o.get("op") == "close_long"}
        )

    async def _put(self, venue: LegVenue, side: LegSide, order: dict[str, Any]) -> None:
        """Build, sign, write the key down, send. What became of it shows in what the venue then holds."""
        self._step += 1
        name = VenueName.ASGARD if side is LegSide.LONG else VenueName.HYPERLIQUID
        spec = IntentSpec(
            intent_id=f"{self._run_id}-{side}-{self._step}",
            position_id=self._run_id,
            venue=name,
            leg=side,
            kind=IntentKind.CLOSE,
            step=self._step,
            order=order,
        )
        await self._clock.refresh()
        signed = await venue.sign(spec, await venue.build(spec))
        said = {"intent_id": spec.intent_id, "venue": name.value, "at_ms": self._clock.now_ms()}
        self._journal.append(what="signed", order=order, key=signed.key, **said)
        outcome = await venue.send(spec, signed)
        self._tries[side] += not isinstance(
            outcome, Confirmed
        )  # of several positions one may be closed at once
        if isinstance(outcome, Unknown):
            outcome = await venue.find(spec, signed)
        text = "done" if isinstance(outcome, Confirmed) else outcome.reason
        self._journal.append(what=type(outcome).__name__.lower(), text=text, **said)
        self._say(f"{name.value} {spec.intent_id}: {text}")

    async def fate(self, row: dict[str, Any]) -> str:
        """What became of something that an earlier run signed, for the person who reads it."""
        venue: LegVenue = self._venues.long if row["venue"] == VenueName.ASGARD.value else self._venues.short
        spec = IntentSpec(
            intent_id=row["intent_id"],
            position_id=row["intent_id"],
            venue=VenueName(row["venue"]),
            leg=LegSide.LONG if row["venue"] == VenueName.ASGARD.value else LegSide.SHORT,
            kind=IntentKind.CLOSE,
            step=0,
            order=row["order"],
        )
        try:
            found = await venue.find(spec, Signed(key=row["key"], wire=None))
        except (Retryable, VenueRefused) as hiccup:
            return f"earlier {row['intent_id']}: cannot be asked about now ({hiccup})"
        return f"earlier {row['intent_id']}: {'done' if isinstance(found, Confirmed) else found.reason}"

    def _say(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
