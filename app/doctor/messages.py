"""Whether people hear of it: channels that are set, a sender that lives, and nothing that waits for long."""

from __future__ import annotations

import asyncio
import math

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from evenkeel.errors import EvenkeelError, OperatorError
from tasks.channels import Channel
from tasks.messages.connect import named_channels, open_channel
from tasks.messages.requests.connection import app_token, ask_for_connection
from tasks.messages.waiting import SILENT_S, quiet_now, sender_faults, silent_s, waiting_for

GROUP = "messages"
WAITING_S = 120.0
"""How long a message may wait in calm hours."""
SET_ONE = "fill in slack.channel, webhook.url or mail.host (docs/messages.md), or nobody hears of an alert"


@check(GROUP, "channels")
async def channels(installation: Installation) -> Verdict:
    """Every channel that the settings name would take a message."""
    names = named_channels(installation.settings)
    if not names:
        says = "no channel is set: alerts stand in the ledger and reach nobody"
        return ok(says) if installation.settings.clock.world_url else warn(says, SET_ONE)
    faults, fine = [], []
    for name in names:
        try:
            fine.append(await _asked(open_channel(name, installation.settings)))
        except OperatorError as fault:
            faults.append(f"{name}: {fault}")
        except EvenkeelError as fault:
            return warn(f"{name}: {fault}", "try again; `evenkeel channels --trial` sends a message")
    if faults:
        return fail("; ".join(faults), "mend it, then `evenkeel channels --trial`")
    return ok("; ".join(f"{name} {says}" for name, says in zip(names, fine, strict=True)))


async def _asked(channel: Channel) -> str:
    try:
        return await channel.check()
    finally:
        await channel.close()


@check(GROUP, "requests")
async def requests(installation: Installation) -> Verdict:
    """Slack opens a connection for requests where an app token is set, and the sender has one."""
    settings = installation.settings
    try:
        token = app_token(settings)
        if token is None:
            named = ", ".join(settings.slack.operators)
            why = await asyncio.to_thread(sender_faults, installation.store)
            if "requests" in why:  # it alone is given the token
                return warn(f"the sender takes no requests: {why['requests']}", "see docs/messages.md")
            who = f" from {named}" if named else ""
            return ok(f"no app token is set here: no requests are taken{who}, but by a sender that has one")
        await asyncio.to_thread(ask_for_connection, token, settings.slack.url)
    except OperatorError as fault:
        return fail(str(fault), "see docs/messages.md")
    except EvenkeelError as fault:
        return warn(str(fault), "try again")
    why = await asyncio.to_thread(sender_faults, installation.store)
    if "requests" in why:
        return warn(f"the sender takes no requests: {why['requests']}", "its log says since when")
    return ok(f"taken; slack.operators names {len(settings.slack.operators)}")


@check(GROUP, "sender")
async def sender(installation: Installation) -> Verdict:
    """`evenkeel send` runs, and what it has to deliver is delivered."""
    if not named_channels(installation.settings):
        return ok("no channel is set")
    store = installation.store

    def read() -> tuple[float, dict[str, float]]:
        now_ms, waiting = store.clock.now_ms(), {}
        for name in named_channels(installation.settings):
            if rows := waiting_for(store, name):
                waiting[name] = (now_ms - rows[0].message.at_ms) / 1000
        return silent_s(store), waiting

    silent, waiting = await asyncio.to_thread(read)
    if silent > SILENT_S:
        since = "has never run" if math.isinf(silent) else f"was last alive {silent:.0f} s ago"
        return fail(f"the sender {since}", "keep `evenkeel send` running under a supervisor")
    late = [f"{name} for {age:.0f} s" for name, age in waiting.items() if age > WAITING_S]
    if late and not quiet_now(installation.settings):
        return warn(f"messages wait: {', '.join(late)}", "`evenkeel messages` says why")
    return ok(
        "alive, nothing waits" if not late else f"alive; wait for the end of quiet hours: {', '.join(late)}"
    )
