"""What the product imports and loads when it first needs it: done once here, before processes are forked that all need it."""

import anyio._backends._asyncio  # noqa: F401

import analytics.carry.funding  # noqa: F401  (pandas)
from evenkeel.tls import tls

tls()
