"""What the product imports and builds when it first needs it: done once here, before processes are forked that all need it."""

import gc

import anyio._backends._asyncio  # noqa: F401
from pydantic import BaseModel

import analytics.carry.funding  # noqa: F401  (pandas)
import flows.carry.collect  # noqa: F401
from evenkeel.tls import tls

OURS = ("analytics", "app", "evenkeel", "flows", "state", "strategy", "tasks", "twins", "venues")

tls()


def make_ready_to_fork() -> None:
    """Build the models that are built at their first use, and let whatever is forked share the pages of all that is here."""
    waiting: list[type[BaseModel]] = [BaseModel]
    while waiting:
        for model in waiting.pop().__subclasses__():
            waiting.append(model)
            if model.__module__.split(".")[0] in OURS:
                model.model_rebuild()
    gc.collect()
    gc.freeze()
