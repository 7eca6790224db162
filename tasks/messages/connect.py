"""The channels that the settings name."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.watch_models import Severity
from tasks.channels import Channel

log = logging.getLogger("evenkeel.alerts")


def named_channels(settings: Settings) -> list[str]:
    """Which channels the settings name, by the section that does."""
    return [
        name
        for name, place in (
            ("slack", settings.slack.channel),
            ("webhook", settings.webhook.url),
            ("mail", settings.mail.host),
        )
        if place
    ]


def open_channels(settings: Settings) -> list[Channel]:
    """Every channel that the settings name. Raises OperatorError where the secret of one is missing or is none."""
    return [open_channel(name, settings) for name in named_channels(settings)]


@asynccontextmanager
async def usable_channels(settings: Settings) -> AsyncIterator[list[Channel]]:
    """The channels of a process that has other work: one that lacks its secret is left out, and the log says so."""
    found: list[Channel] = []
    for name in named_channels(settings):
        try:
            found.append(open_channel(name, settings))
        except OperatorError as fault:
            log.warning("what the ledger cannot keep is not sent by %s: %s", name, fault)
    try:
        yield found
    finally:
        for one in found:
            await one.close()


def open_channel(name: str, settings: Settings) -> Channel:
    """One channel. Only what it needs is imported: clients of others may be slow to load."""
    if name == "slack":
        from tasks.messages.slack import SlackChannel

        token = settings.secret("slack")
        if token is None:
            raise OperatorError(
                "slack.channel is set and there is no token: set slack.token_file or EVENKEEL_SLACK_TOKEN"
            )
        return SlackChannel(
            token,
            settings.slack.channel,
            Severity(settings.slack.least),
            settings.slack.url,
            buttons=settings.secret("slack_app") is not None,
        )
    if name == "webhook":
        from tasks.messages.webhook import WebhookChannel

        secret = settings.secret("webhook")
        if secret is None:
            raise OperatorError(
                "webhook.url is set and there is no secret: set webhook.secret_file or EVENKEEL_WEBHOOK_SECRET"
            )
        return WebhookChannel(settings.webhook.url, secret, Severity(settings.webhook.least))
    from tasks.messages.mail import MailChannel

    password = settings.secret("mail")
    if settings.mail.user and password is None:
        raise OperatorError(
            "mail.user is set and there is no password: set mail.login_file or EVENKEEL_MAIL_PASSWORD"
        )
    return MailChannel(settings.mail, password)
