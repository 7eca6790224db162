"""Delivers the outbox: each channel by itself, so that one that is down holds up no other; each message once.

Before a message is put on the wire, the ledger says so (SENDING). Where the answer is lost, or the process ends before it is
noted, the channel is asked for the message before it is sent again. What is known to be refused or not delivered is noted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evenkeel.errors import LostRace, Retryable
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from state.models import Fence
from state.outbox import Head, Pending
from state.outbox_models import Delivery, DeliveryState, Message, MessageKind
from state.store import Store
from tasks.channels import CannotSay, Channel, Letter, NotNow, Outcome, Refused, Sent, Unsure
from tasks.messages.causes import Causes
from tasks.messages.choose import LONGEST_WAIT_MS, next_of, quiet_at, still_waits, wait_s, wanted
from tasks.messages.compose import Meaning, compose
from tasks.messages.escalation import escalate

log = logging.getLogger("evenkeel.sender")
LEASE = "sender"
HEARTBEAT = "sender"
JOINED = "channel "
"""The checkpoint of a channel: messages written before it was first used are not sent by it."""
LISTEN_S = 1.0
"""How often the outbox is read while nothing waits."""
UNSURE_S = 12.0
"""How long after a message was put on the wire without an answer the channel is asked for it: it is there by then, or lost."""
ESCALATE_S = 10.0
RESTATE_S = 60.0
FIND_S = 30.0
"""Until a channel that could not say whether it has a message is asked for it again."""
MOST_TRIES = 8
"""Tries after which a message that a working channel fails at is given up."""
CHART_MS = 4 * HOUR_MS
"""Nobody needs the picture of a report any more that is older: it is given up where the channel has failed at it."""
TRIES_OF_OLD_CHART = 4
"""So many all the same, where it has waited for the end of quiet hours."""
IDS_APART = 1_000
"""Ids of messages whose transactions may end in another order than they began."""


@dataclass
class Line:
    """One channel and what this process knows of it. Times are ms UTC of the sender's clock."""

    channel: Channel
    since_id: int
    blocked_ms: int = 0
    sent_ms: int = 0
    fault: str = ""
    in_a_row: int = 0


def wall_ms() -> int:
    """The time of people and of channels, whatever world the ledger's clock runs in."""
    return time.time_ns() // 1_000_000


@dataclass
class Sender:
    """One for a ledger at a time: it holds the lease `sender`. `fence` goes into each of its writes."""

    settings: Settings
    store: Store
    channels: Sequence[Channel]
    meanings: Mapping[str, Meaning]
    fence: Fence
    unsure_s: float = UNSURE_S
    alive: Callable[[], object] = lambda: None
    standing: Callable[[Store], Mapping[str, str]] = lambda store: {}
    """By subject with a thread of its own: how it stands now, which the head of the thread shows."""
    faults: Callable[[], Mapping[str, str]] = lambda: {}
    """What else of this process does not work now, by name, for who asks how the sender is."""
    causes: Causes | None = None
    """Makes one message of the alerts of one cause over many accounts, where there are many."""
    now_ms: Callable[[], int] = wall_ms
    lines: list[Line] = field(default_factory=list)
    _stated: dict[tuple[str, str], str] = field(default_factory=dict)

    async def run(self, ended: asyncio.Event) -> None:
        """Until asked to end. Raises LostRace once another sender has the lease."""
        self.lines = [Line(one, self.joined(one)) for one in self.channels]
        working = [asyncio.create_task(self._deliver(line, ended)) for line in self.lines]
        working.append(asyncio.create_task(self._watch_over(ended)))
        working.append(asyncio.create_task(self._keep_heads(ended)))
        try:
            await asyncio.gather(*working)
        finally:
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    def joined(self, channel: Channel) -> int:
        """The id after which messages are this channel's: what was written before its first day is not news any more."""
        name = f"{JOINED}{channel.name}"
        known = self.store.checkpoint(name)
        if known is None:
            self.store.move_checkpoint(
                name, self.store.clock.now_ms(), {"after": self.store.newest_message_id()}
            )
            known = self.store.checkpoint(name)
        return int(known.detail.get("after", 0)) if known else 0

    async def _watch_over(self, ended: asyncio.Event) -> None:
        """Escalate what nobody answers, and say that we live."""
        chosen = self.settings.messages
        while not ended.is_set():
            try:
                await self.store.clock.refresh()
                escalate(self.store, chosen.escalate_after_s, chosen.escalate_every_s)
                faults = {line.channel.name: line.fault for line in self.lines if line.fault} | dict(
                    self.faults()
                )
                self.store.record_heartbeat(HEARTBEAT, {"faults": faults, "wall_ms": wall_ms()})
            except Retryable as fault:
                log.error("ledger or clock cannot be used: %s", fault)
            self.alive()
            await _rest(ended, ESCALATE_S)

    async def _deliver(self, line: Line, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                worked = await self.step(line)
            except Retryable as fault:
                log.error("%s: the ledger cannot be used: %s", line.channel.name, fault)
                worked = False
            if not worked:
                await _rest(ended, LISTEN_S)

    async def _keep_heads(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await _rest(ended, RESTATE_S)
            for line in self.lines:
                try:
                    await self.restate(line)
                except LostRace:
                    raise
                except Exception as fault:  # nothing rests on a head: it is tried at the next turn
                    log.error("heads of threads were not brought up to date: %s", type(fault).__name__)

    async def restate(self, line: Line) -> None:
        """Bring the head of each thread up to date, where it says something else than before. Only what said that a position
        began, or a cause over many accounts, is a head: a thread that begins with an alert, because the channel came later,
        stays as it is.
        """
        for subject, text in self.standing(self.store).items():
            head = self.store.head_message(subject, line.channel.name)
            if head is not None and head.message.kind is MessageKind.SUBJECT:
                await self._restate(line, head, head.message, title=subject, text=text)
        for one in self.causes.heads() if self.causes is not None else ():
            head = self.store.head_message(one.thread, line.channel.name)
            if head is not None:
                await self._restate(line, head, one.stated)

    async def _restate(self, line: Line, head: Head, message: Message, **update: str) -> None:
        if self._is_blocked(line):
            return
        letter = compose(message, self.meanings, runbook_url=self.settings.messages.runbook_url)
        letter = letter.model_copy(update=update)
        says = f"{letter.kind} {letter.title} {letter.text}"
        if self._stated.get((line.channel.name, head.ref)) == says:
            return
        outcome = await line.channel.restate(head.ref, letter)
        if isinstance(outcome, (NotNow, Unsure)) and outcome.all_of_it:
            self._hold(line, None, outcome.reason, outcome.after_s)
        if isinstance(outcome, Sent) or outcome is None:
            self._stated[line.channel.name, head.ref] = says

    async def step(self, line: Line) -> bool:
        """Deliver one message by one channel; False where nothing can be done now."""
        if self._is_blocked(line):
            return False
        store, name, now_ms = self.store, line.channel.name, self.now_ms()
        newest = store.newest_message_id()
        pending = store.pending(name, line.since_id)
        alone, wrote = (pending, False) if self.causes is None else self.causes.gather(pending)
        if wrote:
            return True
        meant = [one for one in alone if wanted(one.message, line.channel.least, line.channel.pictures)]
        if len(meant) < len(alone):
            kept = {one.message.id for one in meant}
            skipped = [one.message.id or 0 for one in alone if one.message.id not in kept]
            note = f"less than {line.channel.least}, or a chart where none is shown"
            store.skip_messages(skipped, [name], note, now_ms, fence=self.fence)
        if (
            not pending
        ):  # what is written meanwhile may have a lower id on a server: transactions end out of order
            line.since_id = max(line.since_id, newest - IDS_APART)
        chosen = next_of(meant, now_ms, quiet_at(self.settings, now_ms))
        if chosen is None:
            return False
        letter = self._letter(line, chosen)
        tried = chosen.delivery
        if tried is not None and tried.state is DeliveryState.SENDING:
            missing = await self._is_missing(line, chosen, tried, letter)
            if not missing:
                return True
        delivery = store.begin_delivery(chosen.message.id or 0, name, now_ms, fence=self.fence)
        try:
            outcome = await line.channel.send(letter)
        except Exception as fault:  # a channel never raises: where ours does, it is held and the others go on
            outcome = Unsure(reason=f"a bug: {type(fault).__name__}")
            self._hold(line, chosen, outcome.reason, None)
        self._note(line, chosen, delivery, outcome, tried)
        return True

    async def _is_missing(self, line: Line, chosen: Pending, tried: Delivery, letter: Letter) -> bool:
        """Whether a message whose answer was lost is to be sent again: the channel had time to take it, and has it not."""
        now_ms = self.now_ms()
        ready_ms = tried.at_ms + int(1000 * self.unsure_s)
        if tried.at_ms <= now_ms < ready_ms:
            self._settle(line, chosen, DeliveryState.SENDING, note=tried.note, again_ms=ready_ms, same=True)
            return False
        try:
            ref = await line.channel.find(letter, tried.begun_ms or chosen.message.at_ms)
        except Exception as fault:  # of this look alone: what is new can be posted all the same
            says = str(fault) if isinstance(fault, Retryable) else type(fault).__name__
            again_ms = now_ms + int(1000 * max(FIND_S, _asked_s(fault)))
            if self._is_too_old(chosen, tried):
                self._give_up(line, chosen, tried, says)
                return False
            self._settle(line, chosen, DeliveryState.SENDING, note=says, again_ms=again_ms, same=True)
            self._say(line, chosen, says)
            return False
        if ref:
            self._settle(line, chosen, DeliveryState.SENT, ref=ref, note="found after its answer was lost")
            return False
        return True

    def _letter(self, line: Line, chosen: Pending) -> Letter:
        head = self.store.thread_head(chosen.message.thread, line.channel.name)
        ref = head.ref if head is not None and head.message_id != chosen.message.id else ""
        is_chart = chosen.message.kind is MessageKind.CHART
        return compose(
            self.store.whole_message(chosen.message) if is_chart else chosen.message,
            self.meanings,
            runbook_url=self.settings.messages.runbook_url,
            thread_ref=ref,
        )

    def _note(
        self, line: Line, chosen: Pending, delivery: Delivery, outcome: Outcome, before: Delivery | None
    ) -> None:
        """Write down what became of a try."""
        now_ms, name = self.now_ms(), line.channel.name
        if isinstance(outcome, Sent):
            self._settle(line, chosen, DeliveryState.SENT, ref=outcome.ref)
            if line.fault:
                log.warning("%s takes messages again", name)
            line.fault, line.in_a_row, line.sent_ms = "", 0, now_ms
        elif isinstance(outcome, Refused):
            log.error("%s refuses message %s: %s", name, chosen.message.key, outcome.reason)
            self._settle(line, chosen, DeliveryState.REFUSED, note=outcome.reason)
        elif self._is_too_old(chosen, delivery):
            self._give_up(line, chosen, delivery, outcome.reason)
        elif isinstance(outcome, NotNow):
            after = outcome.after_s if outcome.after_s is not None else wait_s(delivery.tries)
            again_ms = now_ms + int(1000 * after)
            self._settle(line, chosen, DeliveryState.WAITING, note=outcome.reason, again_ms=again_ms)
            if outcome.all_of_it:
                self._hold(line, chosen, outcome.reason, after)
        elif self._fails_at_this(line, delivery, before) and not outcome.all_of_it:
            self._give_up(line, chosen, delivery, outcome.reason)
        else:
            after = outcome.after_s if outcome.after_s is not None else wait_s(delivery.tries)
            again_ms, note = now_ms + int(1000 * max(self.unsure_s, after)), outcome.reason
            self._settle(line, chosen, DeliveryState.SENDING, note=note, again_ms=again_ms, same=True)
            if outcome.all_of_it:
                self._hold(line, chosen, outcome.reason, after)
            else:
                self._say(line, chosen, outcome.reason)

    def _fails_at_this(self, line: Line, delivery: Delivery, before: Delivery | None) -> bool:
        """Whether the channel takes others, and fails at this one each time: the rest of its thread waits no longer then."""
        return delivery.tries >= MOST_TRIES and before is not None and line.sent_ms > before.at_ms

    def _is_too_old(self, chosen: Pending, delivery: Delivery) -> bool:
        """Whether this is a chart that nobody needs any more: by its own age, or by that of the try whose answer was lost."""
        if chosen.message.kind is not MessageKind.CHART:
            return False
        age_ms = self.store.clock.now_ms() - chosen.message.at_ms
        asked_ms = 0 if delivery.begun_ms is None else self.now_ms() - delivery.begun_ms
        return asked_ms >= CHART_MS or (age_ms >= CHART_MS and delivery.tries >= TRIES_OF_OLD_CHART)

    def _give_up(self, line: Line, chosen: Pending, delivery: Delivery, reason: str) -> None:
        log.error(
            "%s fails at message %s, which is given up: %s", line.channel.name, chosen.message.key, reason
        )
        note = f"given up after {delivery.tries} tries: {reason}"
        self._settle(line, chosen, DeliveryState.REFUSED, note=note)

    def _is_blocked(self, line: Line) -> bool:
        """Whether the channel is left alone now. A clock that was set back does not block it for longer than it was meant."""
        return still_waits(line.blocked_ms, self.now_ms())

    def _hold(self, line: Line, chosen: Pending | None, reason: str, after_s: float | None) -> None:
        """Leave a channel alone for a while: it takes nothing now."""
        line.in_a_row += 1
        after = after_s if after_s is not None else wait_s(line.in_a_row)
        line.blocked_ms = self.now_ms() + min(int(1000 * after), LONGEST_WAIT_MS)
        self._say(line, chosen, reason)

    def _say(self, line: Line, chosen: Pending | None, reason: str) -> None:
        """Note what is wrong with a channel; a chart that waits is no fault of it, as no text waits for one."""
        if chosen is not None and chosen.message.kind is MessageKind.CHART:
            log.warning("%s does not take a chart now: %s", line.channel.name, reason)
            return
        if reason != line.fault:
            log.error("%s takes no messages now: %s", line.channel.name, reason)
        line.fault = reason

    def _settle(
        self,
        line: Line,
        chosen: Pending,
        state: DeliveryState,
        *,
        ref: str = "",
        note: str = "",
        again_ms: int = 0,
        same: bool = False,
    ) -> None:
        self.store.settle_delivery(
            chosen.message.id or 0,
            line.channel.name,
            state,
            self.now_ms(),
            ref=ref,
            note=note,
            again_ms=again_ms,
            keep_at=same,
            fence=self.fence,
        )


def _asked_s(fault: Exception) -> float:
    """For how long a channel that cannot say wants to be left alone."""
    return fault.after_s or 0.0 if isinstance(fault, CannotSay) else 0.0


async def _rest(ended: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return
