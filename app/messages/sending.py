"""`evenkeel send`: the process that delivers the outbox. It needs neither Prefect nor a venue's key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.messages.requests import open_connection, take_requests
from app.metrics.serving import metrics
from app.supervised import ALIVE, READY, STOPPING, notify, when_asked_to_end
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.models import Fence
from state.store import Store
from tasks.accounts.meanings import MEANINGS as OF_ACCOUNTS
from tasks.carry.books.heads import standing, whose
from tasks.carry.last_ticks import overdue_after_s
from tasks.carry.watching.meanings import MEANINGS, OF_ALL_ACCOUNTS
from tasks.channels import Channel
from tasks.leases import OwnLeases
from tasks.messages.causes import Causes
from tasks.messages.compose import Meaning, load_meanings
from tasks.messages.connect import open_channels
from tasks.messages.sender import LEASE, Sender

log = logging.getLogger("evenkeel.sender")


def meanings() -> dict[str, Meaning]:
    """What the alerts of every business mean, by kind."""
    return load_meanings(Path(OF_ACCOUNTS)) | load_meanings(Path(MEANINGS))


async def send(settings: Settings, store: Store) -> None:
    """Deliver until asked to end (SIGTERM, SIGINT). Raises OperatorError where no channel is set, LostRace where another sender
    of this ledger is at work.
    """
    channels = open_channels(settings)
    if not channels:
        raise OperatorError(
            "no channel is set: fill in slack.channel, webhook.url or mail.host (docs/messages.md), then try "
            "`evenkeel channels --trial`"
        )
    requests, no_requests = None, ""
    try:
        requests = open_connection(settings, store)
    except OperatorError as fault:  # of requests alone: alerts are delivered all the same
        no_requests = str(fault)
        log.error("no requests are taken from Slack: %s", no_requests)
    ended = asyncio.Event()
    when_asked_to_end(ended.set)
    try:
        async with OwnLeases(store).exclusive(LEASE, "the outbox") as fence:
            sender = Sender(
                settings,
                store,
                channels,
                meanings(),
                fence,
                causes=causes_of(settings, store, channels, fence),
                alive=lambda: notify(ALIVE),
                standing=partial(standing, after_s=overdue_after_s(settings)),
                faults=lambda: _faults(no_requests if requests is None else requests.fault),
            )
            log.warning("the sender runs: %s", ", ".join(one.name for one in channels))
            with metrics(settings, settings.metrics.sender_port):
                notify(READY)
                taking = asyncio.create_task(take_requests(requests, ended)) if requests is not None else None
                try:
                    await sender.run(ended)
                finally:
                    ended.set()
                    if taking is not None:
                        await taking
                notify(STOPPING)
    finally:
        await closed(channels)


def causes_of(settings: Settings, store: Store, channels: Sequence[Channel], fence: Fence) -> Causes | None:
    """What makes one message of the alerts of one cause, for a fleet of several accounts."""
    if len(settings.fleet) < 2:
        return None
    names, every_s = [one.name for one in channels], settings.messages.escalate_every_s
    return Causes(store, OF_ALL_ACCOUNTS, partial(whose, settings=settings), names, every_s, fence)


def _faults(of_requests: str) -> dict[str, str]:
    return {"requests": of_requests} if of_requests else {}


async def closed(channels: list[Channel]) -> None:
    """Give the connections of the channels back."""
    for one in channels:
        await one.close()
