"""What is saved up of a host's request limit, in a file that every process of this machine reads and writes.

A venue counts by address, not by process: a process that takes over from one that was killed, a command beside a monitor and
two businesses that ask one host all spend of the same limit.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("evenkeel.venues")
_LAYOUT = struct.Struct("<4sdqq")
"""A mark, weight saved up, when that was so (ms), before when nothing is spent for books (ms)."""
_MARK = b"EKB1"
TRIES = 50
PAUSE_S = 0.0002


@dataclass(frozen=True, slots=True)
class Savings:
    """`saved` weight units at `at_ms`; nothing is spent for books before `books_ms`."""

    saved: float
    at_ms: int
    books_ms: int


class SavingsFile:
    """One file for one host. Where it cannot be read or written, or another process holds it for long, the answer is None: a
    process then counts alone, since no way out may wait for a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Savings | None:
        """Return what is saved up, as the last process left it."""
        try:
            with self._held() as file:
                return _read(file)
        except OSError:
            return None

    def change(self, change: Callable[[Savings | None], Savings]) -> Savings | None:
        """Replace what is saved up by what `change` makes of it, while no other process reads or writes it; return that."""
        try:
            with self._held() as file:
                after = change(_read(file))
                os.pwrite(file, _LAYOUT.pack(_MARK, after.saved, after.at_ms, after.books_ms), 0)
                return after
        except OSError as error:
            log.debug("%s: %s; this process counts alone", self._path.name, error.strerror)
            return None

    @contextmanager
    def _held(self) -> Iterator[int]:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            yield file
        finally:
            os.close(file)


def _lock(file: int) -> None:
    for _ in range(TRIES):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE_S)
    raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it")


def _read(file: int) -> Savings | None:
    kept = os.pread(file, _LAYOUT.size, 0)
    if len(kept) != _LAYOUT.size:
        return None
    mark, saved, at_ms, books_ms = _LAYOUT.unpack(kept)
    return Savings(saved, at_ms, books_ms) if mark == _MARK else None
