"""Load modules without the garbage collector looking on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unswept() -> Iterator[None]:
    """While modules load, hundreds of thousands of objects are made and next to none dropped: the collector would walk
    through all of them time and again, for a sixth of what a command takes to start. What is there in the end stays.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
