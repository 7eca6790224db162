"""Close what our accounts hold when the ledger cannot be used: the venues are asked what there is, and a file keeps the keys.

Why a second run, or a crash in between, cannot do harm: an order here only ever reduces the short that the venue shows, and
a close of a lending position is always of all of it. Whatever lands twice finds nothing left, so nothing has to be known
of an earlier order before the next is sent. The key is still on disk before anything leaves, so that it can be explained.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import words_of
from evenkeel.legs import CARRY, IntentKind, LegSide, LegView
from evenkeel.settings.settings import Settings
from evenkeel.types import Confirmed, Frozen, IntentSpec, Outcome, Receipt, Signed, Unknown, VenueName
from tasks.carry.closing.key_file import Journal, KeyFile, NoJournal, own_path
from tasks.carry.connect import Venues, open_venues
from tasks.carry.mark import UNDERLYING
from tasks.carry.prices import prices_without_ledger
from tasks.carry.stored_needs import needs_without_ledger, use_stored_needs
from tasks.carry.tips import affordable_tip
from venues.asgard.orders import CloseLong
from venues.hyperliquid import digests as _digests  # noqa: F401  (loaded now, not with the first order)
from venues.hyperliquid.orders import PerpOrder
from venues.protocol import LegVenue

log = logging.getLogger("evenkeel.last_resort")
AGAIN_S = 2.0
PASS_S = 20.0
"""With a key that cannot be opened: for so long what the other one holds is closed, before both are opened anew."""
REOPEN_S = 5.0
SETTLED_MS = 30_000
"""For which an order beside a foreign short is asked about: it expires in half of that."""
EARLIER_MS = 600_000
"""What a run of the last ten minutes signed is reported once more: nothing older can still land."""


class Emptied(Frozen):
    """`left`: what our accounts still hold, ours or not, or why they could not be asked. `notes`: what was done. `closed`:
    whether anything was sent.
    """

    left: tuple[str, ...]
    notes: tuple[str, ...]
    closed: bool = False


class Ours(Frozen):
    """What of the accounts may be closed, where not everything: one lending position, and so much of the short (SOL). None
    where the books know of no short: then none is touched.
    """

    position_id: str
    long_ref: str
    protocol: int
    short_qty: Decimal | None
    wallet: str = ""
    account: str = ""
    """Whose they are: with the keys of others nothing is closed."""


async def close_without_ledger(
    settings: Settings, clock: Clock, journal: Journal, within_s: float, *, ours: Ours | None = None
) -> Emptied:
    """`empty_accounts` with the keys that can be opened; one that cannot is tried again and again, and reported at the end.
    With `ours` nothing else is closed.

    Raises NoJournal where the key file cannot be written.
    """
    deadline_ms: int | None = None
    tries: dict[LegSide, int] = {}
    while True:
        async with open_venues(settings, clock, {}) as venues:
            venues.long.use_stored_prices(await prices_without_ledger(settings, clock))
            needs = await needs_without_ledger(settings, clock)
            use_stored_needs(partial(list, needs), venues.long, venues.short)
            await clock.refresh()
            deadline_ms = deadline_ms or clock.now_ms() + int(within_s * 1000)
            left_s = max((deadline_ms - clock.now_ms()) / 1000, 0.0)
            pass_s = min(left_s, PASS_S) if venues.without_key else left_s
            done = await empty_accounts(settings, venues, clock, journal, pass_s, tries, ours=ours)
            if not done.left or not venues.without_key or clock.now_ms() >= deadline_ms:
                return done
            await clock.sleep(REOPEN_S)


async def empty_accounts(
    settings: Settings,
    venues: Venues,
    clock: Clock,
    journal: Journal,
    within_s: float,
    tries: dict[LegSide, int] | None = None,
    *,
    ours: Ours | None = None,
) -> Emptied:
    """Buy back the SOL short and close every lending position of our wallet, both at once, until the venues show none.

    No fault of one leg stops another; each is named in `left`. `tries` counts what was sent in vain, over several passes: each
    further try offers more. Raises NoJournal where the key file cannot be written.
    """
    await clock.refresh()
    tries = {} if tries is None else tries
    run = _Run(settings, venues, clock, journal, clock.now_ms() + int(within_s * 1000), tries, ours)
    since_ms = clock.now_ms() - EARLIER_MS
    earlier = [
        row for row in journal.rows() if row.get("what") == "signed" and row.get("at_ms", 0) >= since_ms
    ]
    ends = await asyncio.gather(
        run.until_flat(VenueName.HYPERLIQUID, run.short_once),
        run.until_flat(VenueName.ASGARD, run.longs_once),
    )
    if run.stopped is not None:
        raise run.stopped
    left = [text for end in (*ends, *run.foreign.values()) for text in end]
    notes = [await run.outcome_of(row) for row in earlier]
    return Emptied(left=tuple(left), notes=(*notes, *run.notes), closed=run.sent)


class _Run:
    def __init__(
        self,
        settings: Settings,
        venues: Venues,
        clock: Clock,
        journal: Journal,
        deadline_ms: int,
        tries: dict[LegSide, int],
        ours: Ours | None,
    ) -> None:
        self._settings = settings
        self._venues = venues
        self._clock = clock
        self._journal = journal
        self._deadline_ms = deadline_ms
        self._step = 0
        self._tries = tries
        self._ours = ours
        for side in LegSide:
            tries.setdefault(side, 0)
        self._run_id = f"flatten-{clock.now_ms()}"
        self.notes: list[str] = []
        self.sent = False
        self._bought = Decimal(0)
        self._beside_foreign = False
        self.foreign: dict[str, list[str]] = {}
        """What our accounts hold that is not of a kind that we trade: named, and never touched."""
        self.stopped: NoJournal | None = None

    async def until_flat(self, venue: VenueName, once: Callable[[], Awaitable[list[str]]]) -> list[str]:
        """Look and close again and again; what is left when nothing is, or when the time is up. Raises nothing."""
        if (why := self._venues.unidentified.get(venue)) is not None:
            return [f"{venue} cannot be asked what it holds: {why}"]
        if (why := self._of_others(venue)) is not None:
            return [why]
        while True:
            try:
                left = await once()
            except NoJournal as fault:
                self.stopped, left = fault, [str(fault)]
            except Exception as fault:
                left = [f"{venue}: {_words_of(fault)}"]
            if not left or self.stopped is not None or self._clock.now_ms() >= self._deadline_ms:
                return left
            await self._clock.sleep(AGAIN_S)

    async def short_once(self) -> list[str]:
        """The short as the venue shows it; bought back if there is one."""
        held = await self._shorts()
        if not held:
            return []
        order = PerpOrder(
            coin=UNDERLYING,
            is_buy=True,
            size=held[0].qty,
            reduce_only=True,
            slippage_bps=Decimal(self._bound_bps(LegSide.SHORT)),
        )
        why = await self._tried(self._venues.short, LegSide.SHORT, order.model_dump(mode="json"))
        return [f"short of {leg.qty} SOL{why}" for leg in await self._shorts()]

    async def _shorts(self) -> list[LegView]:
        shown = await self._venues.short.leg(UNDERLYING)
        held = [] if shown is None else [self._part_of_ours(shown)]
        self.foreign[VenueName.HYPERLIQUID] = [
            f"Hyperliquid holds {leg.qty} SOL long, which is no leg of ours: not touched, close it by hand"
            for leg in held
            if leg.side is not LegSide.SHORT
        ]
        return [leg for leg in held if leg.side is LegSide.SHORT and leg.qty > 0]

    def _of_others(self, venue: VenueName) -> str | None:
        """Why nothing is closed there: the keys are not those of the position's account."""
        if self._ours is None:
            return None
        short = venue is VenueName.HYPERLIQUID
        wanted = self._ours.account if short else self._ours.wallet
        found = self._venues.short.address if short else self._venues.long.wallet
        if not wanted or wanted == found:
            return None
        return f"{venue}: {self._ours.position_id} belongs to {wanted}, and the keys are those of {found}"

    def _part_of_ours(self, shown: LegView) -> LegView:
        """The leg without what is not ours of it: what the first reading says of that, the journal keeps for a second run."""
        if self._ours is None or shown.side is not LegSide.SHORT:
            return shown
        ours, now_ms = self._ours, self._clock.now_ms()
        held = ours.short_qty or Decimal(0)
        rows = [
            row
            for row in self._journal.rows()
            if (row.get("what"), row.get("position_id")) == ("not ours", ours.position_id)
            and now_ms - int(row.get("at_ms", 0)) < EARLIER_MS
        ]
        foreign = Decimal(rows[-1]["qty"]) if rows else max(shown.qty - held, Decimal(0))
        if foreign and (not rows or now_ms - int(rows[-1]["at_ms"]) > EARLIER_MS // 10):
            self._journal.append(
                what="not ours", position_id=ours.position_id, qty=min(foreign, shown.qty), at_ms=now_ms
            )
        self._beside_foreign = foreign > 0
        # A reading may lag behind what was bought back: of ours no more than that is left.
        left = min(shown.qty - foreign, held - self._bought) if foreign else shown.qty
        return shown.model_copy(update={"qty": max(left, Decimal(0))})

    async def longs_once(self) -> list[str]:
        """Every lending position that the lender lists for our wallet; each closed in full, whatever became of the others."""
        why = {}
        for leg in await self._longs():
            why[leg.ref] = await self._tried(self._venues.long, LegSide.LONG, await self._close_order(leg))
        return [
            f"{leg.qty} {leg.asset} in lending position {leg.ref}{why.get(leg.ref, '')}"
            for leg in await self._longs()
        ]

    async def _longs(self) -> list[LegView]:
        held = await self._venues.long.legs(self._known_pdas())
        self.foreign[VenueName.ASGARD] = [
            f"lending position {pda}: {why}: not touched, close it by hand"
            for pda, why in self._venues.long.not_understood.items()
        ]
        return [leg for leg in held if self._ours is None or leg.ref == self._ours.long_ref]

    async def _tried(self, venue: LegVenue, side: LegSide, order: dict[str, Any]) -> str:
        """One order; why it could not be placed, as the end of a line. Only the key file's own fault is raised."""
        try:
            await self._put(venue, side, order)
        except NoJournal:
            raise
        except Exception as fault:
            return f": {_words_of(fault)}"
        return ""

    async def _close_order(self, leg: LegView) -> dict[str, Any]:
        order = CloseLong(
            asset=leg.asset,
            protocol=int(leg.protocol or 0),
            position_pda=leg.ref,
            slippage_bps=self._bound_bps(LegSide.LONG),
            jito_tip_lamports=await affordable_tip(
                self._venues.long, self._settings.exit_tip_lamports(self._tries[LegSide.LONG], emergency=True)
            ),
            emergency=True,
        )
        return order.model_dump(mode="json")

    def _bound_bps(self, side: LegSide) -> int:
        return self._settings.limits.exit_slippage_bps(self._tries[side], emergency=True)

    def _known_pdas(self) -> list[tuple[int, str]]:
        """Lending positions that this file has seen closing: the lender may have dropped their rows already."""
        orders = [row.get("order", {}) for row in self._journal.rows()]
        known = {(int(o["protocol"]), str(o["position_pda"])) for o in orders if o.get("op") == "close_long"}
        if self._ours is not None and self._ours.long_ref:
            known.add((self._ours.protocol, self._ours.long_ref))
        return sorted(known)

    async def _put(self, venue: LegVenue, side: LegSide, order: dict[str, Any]) -> None:
        """Build, sign, write the key down, send. What became of it shows in what the venue then holds."""
        if self.stopped is not None:
            raise self.stopped
        self._step += 1
        name = VenueName.ASGARD if side is LegSide.LONG else VenueName.HYPERLIQUID
        spec = IntentSpec(
            intent_id=f"{self._run_id}-{side}-{self._step}",
            business=CARRY,
            subject=self._run_id,
            part=side,
            venue=name,
            kind=IntentKind.CLOSE,
            step=self._step,
            order=order,
        )
        await self._clock.refresh()
        signed = await venue.sign(spec, await venue.build(spec))
        said = {"intent_id": spec.intent_id, "venue": name, "at_ms": self._clock.now_ms()}
        self._journal.append(what="signed", order=order, key=signed.key, **said)
        self.sent = True
        outcome = await venue.send(spec, signed)
        if not isinstance(outcome, Confirmed):  # of several positions one may be closed at once
            self._tries[side] += 1
        if isinstance(outcome, Unknown):
            outcome = await venue.find(spec, signed)
        if side is LegSide.SHORT and self._beside_foreign:
            # Beside a foreign short a second order would reduce that one: the first must be known to its end.
            until_ms = self._clock.now_ms() + SETTLED_MS
            while isinstance(outcome, Unknown) and self._clock.now_ms() < until_ms:
                await self._clock.sleep(AGAIN_S)
                outcome = await venue.find(spec, signed)
            if isinstance(outcome, Confirmed):
                self._bought += outcome.value.done_qty
        text = "done" if isinstance(outcome, Confirmed) else outcome.reason
        self._journal.append(what=type(outcome).__name__.lower(), text=text, **said)
        self._say(f"{name} {spec.intent_id}: {text}")

    async def outcome_of(self, row: dict[str, Any]) -> str:
        """What became of something that an earlier run signed, for the person who reads it."""
        try:
            found = await self._found(row)
        except Exception as fault:
            return f"earlier {row.get('intent_id')}: cannot be asked about now ({_words_of(fault)})"
        return f"earlier {row['intent_id']}: {'done' if isinstance(found, Confirmed) else found.reason}"

    async def _found(self, row: dict[str, Any]) -> Outcome[Receipt]:
        is_long = row["venue"] == VenueName.ASGARD.value
        venue: LegVenue = self._venues.long if is_long else self._venues.short
        spec = IntentSpec(
            intent_id=row["intent_id"],
            business=CARRY,
            subject=row["intent_id"],
            part=LegSide.LONG if is_long else LegSide.SHORT,
            venue=row["venue"],
            kind=IntentKind.CLOSE,
            step=0,
            order=row["order"],
        )
        return await venue.find(spec, Signed(key=row["key"], wire=None))

    def _say(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _words_of(fault: Exception) -> str:
    log.debug("a fault", exc_info=fault)
    return words_of(fault)


async def close_accounts_without_ledger(
    settings: Settings, make_clock: Callable[[Settings], Clock], path: Path, within_s: float
) -> Emptied:
    """Empty every account that the settings mean, side by side, with a key file for each: of a fleet, `path` with the account's
    name in it. No fault of one breaks off another. Raises NoJournal where no account's can be written.
    """
    each = settings.each_account()

    async def close(one: Settings) -> Emptied:
        file = own_path(one, path)
        done = await close_without_ledger(one, make_clock(one), KeyFile(file), within_s)
        return done.model_copy(update={"notes": (*done.notes, f"keys are in {file}")})

    ends = await asyncio.gather(*(close(one) for one in each), return_exceptions=True)
    faults = [end for end in ends if isinstance(end, BaseException)]
    if len(faults) == len(each) and (len(each) == 1 or all(isinstance(one, NoJournal) for one in faults)):
        raise faults[0]
    whole = [_emptied(one, end, several=len(each) > 1) for one, end in zip(each, ends, strict=True)]
    return Emptied(
        left=tuple(text for one in whole for text in one.left),
        notes=tuple(text for one in whole for text in one.notes),
        closed=any(one.closed for one in whole),
    )


def _emptied(account: Settings, end: Emptied | BaseException, *, several: bool) -> Emptied:
    """What became of one account, with its name where there are several."""
    if isinstance(end, BaseException):
        log.error("%s is not closed: %s", account.of_account, words_of(end))
        log.debug("a fault", exc_info=end)
        end = Emptied(left=(words_of(end),), notes=())
    whose = f"{account.of_account}: " if several else ""
    return Emptied(
        left=tuple(f"{whose}{text}" for text in end.left),
        notes=tuple(f"{whose}{text}" for text in end.notes),
        closed=end.closed,
    )
