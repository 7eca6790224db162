"""How people hear of it: which channel gets what, when it is quiet, and who is sent what nobody has answered."""

from __future__ import annotations

import re
from datetime import time
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from evenkeel.settings.section import Section

Least = Literal["info", "warning", "critical"]


class Messages(Section):
    """What holds for every channel."""

    quiet_from: str = ""
    """A time of day of `reports.timezone`, as 22:00: from then on only what is critical is sent."""
    quiet_until: str = ""
    """When the rest of it is sent. Both or neither; they may lie on two days."""
    escalate_after_s: int = Field(default=300, ge=60, le=86_400)
    """How long a critical alert may be open, acknowledged by nobody, until every channel is sent it again."""
    escalate_every_s: int = Field(default=3600, ge=300, le=86_400)
    """How often after that."""
    runbook_url: str = ""
    """Where your people read the runbook, for the link in each message; empty: its name in the repository."""

    @field_validator("quiet_from", "quiet_until")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if value and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError("must be a time of day as 22:00, or empty")
        return value

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.quiet_from) != bool(self.quiet_until):
            raise ValueError("messages.quiet_from and messages.quiet_until: set both, or neither")
        if self.quiet_from and self.quiet_from == self.quiet_until:
            raise ValueError(
                "messages.quiet_from is messages.quiet_until: quiet hours must end later than they begin"
            )
        return self

    @property
    def quiet(self) -> tuple[time, time] | None:
        """From when until when, in the time zone of the reports; None where it is never quiet."""
        if not self.quiet_from:
            return None
        return time.fromisoformat(self.quiet_from), time.fromisoformat(self.quiet_until)


class Slack(Section):
    """A Slack app of yours with a bot token (`chat:write`, `channels:history` or `groups:history`, `files:write`), and with an
    app token (`connections:write`) where it takes requests.
    """

    channel: str = ""
    """The id of the channel (its details show it, e.g. C0123456789), not its name; the app is a member. Empty: no Slack."""
    token_file: Path | None = None
    """Holds the bot token (`xoxb-…`), unless `EVENKEEL_SLACK_TOKEN` does."""
    app_token_file: Path | None = None
    """Holds the app token (`xapp-…`), unless `EVENKEEL_SLACK_APP_TOKEN` does: `evenkeel send` takes requests with it."""
    operators: tuple[str, ...] = Field(default=(), max_length=50)
    """Who may ask for anything: ids of users (a profile shows it, e.g. U0123456789), not names. Empty: nobody."""
    least: Least = "info"
    """What is less than this is not sent."""
    url: str = "https://slack.com/api"

    @field_validator("channel")
    @classmethod
    def _is_channel(cls, value: str) -> str:
        if value and not re.fullmatch(r"[CGD][A-Z0-9]{8,20}", value):
            raise ValueError(
                "must be the id of a channel, e.g. C0123456789 (its details in Slack show it), or empty"
            )
        return value

    @field_validator("operators")
    @classmethod
    def _are_users(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not re.fullmatch(r"[UW][A-Z0-9]{8,20}", one):
                raise ValueError(
                    "must be ids of users, e.g. U0123456789 (the profile of a person in Slack shows it)"
                )
        if len(set(value)) < len(value):
            raise ValueError("names a user twice")
        return value


class Webhook(Section):
    """An address of yours that is sent each message as JSON, signed as standardwebhooks.com describes."""

    url: str = ""
    """Empty: no webhook."""
    secret_file: Path | None = None
    """Holds the signing secret (`whsec_…`), unless `EVENKEEL_WEBHOOK_SECRET` does."""
    least: Least = "info"


class Mail(Section):
    """A mail server that takes our mail."""

    host: str = ""
    """Empty: no mail."""
    port: int = Field(default=587, ge=1, le=65_535)
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    """`none` only to a server on this host."""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    user: str = ""
    """Empty: the server asks for none."""
    login_file: Path | None = None
    """Holds the password of the user, unless `EVENKEEL_MAIL_PASSWORD` does."""
    least: Least = "warning"

    @field_validator("sender", "recipients")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in (value,) if isinstance(value, str) else value:
            if one and not re.fullmatch(r"[^@\s]+@[^@\s]+", parseaddr(one)[1]):
                raise ValueError("must be mail addresses, e.g. ops@example.com")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.host and not (self.sender and self.recipients):
            raise ValueError("mail.host is set: set mail.sender and mail.recipients as well")
        if self.host and self.encryption == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError(
                f"mail.encryption is none and mail.host is {self.host}: only a server on this host may be used without"
            )
        return self
