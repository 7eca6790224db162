"""Where the program runs: its ledger, its clock, its Prefect server, and who may pause and resume it."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from evenkeel.settings.section import Section


class Database(Section):
    """Where the ledger is: SQLite (`sqlite:///path`) or PostgreSQL (`postgresql+psycopg://…`)."""

    url: str = "sqlite:///evenkeel.db"
    emergency_journal: Path | None = None
    """Where the keys of orders are kept while the ledger cannot be used: a file, best on another disk than the ledger's.
    Empty: the first of the home folder, the folder of temporary files and `/dev/shm` that can be written, other disks first.
    """
    limits_folder: Path | None = None
    """Where the processes of this machine count together what they ask of each venue, which counts by address: a folder that
    all of them can write. Empty: beside the ledger's file, or the folder of temporary files where the ledger is on a server.
    """

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        return value


class ClockSettings(Section):
    """Empty for real time; the control URL of running twins for their world's time."""

    world_url: str = ""


class PrefectSettings(Section):
    """The Prefect API; empty means `PREFECT_API_URL`, and without either the flows run bare."""

    api_url: str = ""
    late_run_s: int = Field(default=300, ge=10, le=86_400)
    """Most seconds after the time it was asked for that a run which trades (enter, exit, rebalance) may begin."""


class Reports(Section):
    """When the daily report is made. `evenkeel deploy` gives its schedule to Prefect."""

    timezone: str = "UTC"
    """As the IANA data base names it, e.g. `Europe/Zurich`;"""
    hour: int = Field(default=7, ge=0, le=23)
    """Of that time zone."""

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                "must be a time zone as the IANA data base names it, e.g. Europe/Zurich"
            ) from None
        return value


class Watchdog(Section):
    """How `evenkeel watchdog` sees to it that somebody looks at every live position."""

    after_s: int = Field(default=90, ge=45, le=3600)
    """Seconds without a look after which a position is `not watched`."""
    every_s: int = Field(default=15, ge=1, le=300)
    """Seconds between two rounds of the watchdog."""
    ping_url: str = ""
    """Address of a dead man's switch at somebody else's, called after each round in which all is well: it speaks up where the
    calls stop, be it that a position is not watched, that the ledger cannot be read, that nobody delivers alerts, or that the
    whole host is gone.
    """

    @field_validator("ping_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
            raise ValueError("must be an address that starts with https:// or http://, or empty")
        return value


class Metrics(Section):
    """Where Prometheus finds what the ledger says. Each port serves the same; 0 serves nothing."""

    host: str = "127.0.0.1"
    """Loopback unless something in front of it asks who it is: positions and their size are in it."""
    watchdog_port: int = Field(default=0, ge=0, le=65_535)
    """Of `evenkeel watchdog`."""
    sender_port: int = Field(default=0, ge=0, le=65_535)
    """Of `evenkeel send`."""
    desk_port: int = Field(default=0, ge=0, le=65_535)
    """Of `evenkeel desk`."""


class Admin(Section):
    """Who may pause and resume. The hash is made by `evenkeel admin hash`; it is no secret, the key is."""

    key_hash: str = ""

    @field_validator("key_hash")
    @classmethod
    def _is_hash(cls, value: str) -> str:
        if value and not re.fullmatch(r"scrypt\$\d+\$\d+\$\d+\$[A-Za-z0-9_=-]+\$[A-Za-z0-9_=-]+", value):
            raise ValueError("is not what `evenkeel admin hash` prints")
        return value
