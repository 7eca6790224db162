"""Where the keys of orders stand that are sent without the ledger: one JSON object a line, on disk before it is sent."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.engine import parse_url

log = logging.getLogger("evenkeel.last_resort")
NAME = "evenkeel-flatten.jsonl"
SHARED_MEMORY = Path("/dev/shm")


class NoJournal(OperatorError):
    """The key file cannot be read or written: the one fault that stops everything, because nothing could be explained."""


class Journal(Protocol):
    """What keeps the keys. It holds no secret."""

    def append(self, **row: Any) -> None:
        """Raises NoJournal where the row cannot be kept: then nothing may be sent either."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """What earlier runs wrote."""
        ...


class KeyFile:
    """The journal in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def append(self, **row: Any) -> None:
        """Raises NoJournal where the file cannot be written: then nothing may be sent either."""
        try:
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
                # A row that a full disk cut short must not swallow the next one.
                file.write("\n" + json.dumps(row, default=str) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NoJournal(
                f"the key file {self.path} cannot be written ({error.strerror}): name another with --journal"
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """What earlier runs wrote; a line that a crash cut short is left out."""
        if not self.path.is_file():
            return []
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except OSError as error:
            raise NoJournal(
                f"the key file {self.path} cannot be read ({error.strerror}): name another with --journal"
            ) from error
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [row for row in found if isinstance(row, dict)]


class KeysInLog:
    """The journal of a host on which no file can be written: the log keeps the rows, which leave the host with it, and memory
    what this process has to know.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def __str__(self) -> str:
        return "the log"

    def append(self, **row: Any) -> None:
        text = json.dumps(row, default=str)
        self._rows.append(json.loads(text))
        log.critical("no file can be written; key: %s", text)

    def rows(self) -> list[dict[str, Any]]:
        return list(self._rows)


def journal_of(settings: Settings, unusable: Collection[str] = ()) -> Journal:
    """The account's file of the settings, else the first place that can be written, on another disk than the ledger's where
    there is one; the log where no file can be written. `unusable`: places that have failed. Never raises.
    """
    named = settings.database.emergency_journal
    places = [named] if named else [folder / NAME for folder in _folders(settings)]
    for path in (own_path(settings, place) for place in places):
        if str(path) in unusable:
            continue
        file = KeyFile(path)
        try:
            file.append(what="opened", pid=os.getpid())
        except NoJournal as fault:
            log.warning("%s", fault)
            continue
        return file
    return KeysInLog()


def own_path(settings: Settings, path: Path) -> Path:
    """Where the account of these settings keeps its keys: of a fleet, a file with the account's name in its own."""
    return path.with_name(f"{path.stem}-{settings.of_account}{path.suffix}") if settings.of_account else path


def _folders(settings: Settings) -> Iterable[Path]:
    # `tempfile.gettempdir` writes to find out, and raises where every disk is full.
    folders = [Path(os.environ.get("TMPDIR") or "/tmp"), SHARED_MEMORY]
    with suppress(RuntimeError):  # an account without a home
        folders.insert(0, Path.home())
    ledger = _device(_folder_of_ledger(settings))
    return sorted(dict.fromkeys(folders), key=lambda folder: ledger is not None and _device(folder) == ledger)


def _folder_of_ledger(settings: Settings) -> Path | None:
    url = parse_url(settings.database.url)
    return Path(str(url.database)).absolute().parent if url.drivername.startswith("sqlite") else None


def _device(folder: Path | None) -> int | None:
    try:
        return None if folder is None else folder.stat().st_dev
    except OSError:
        return None
