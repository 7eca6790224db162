"""One TLS context for every connection of this process: reading the machine's certificates takes 20 ms each time."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def tls() -> ssl.SSLContext:
    """What httpx would make for itself, with the certificates that it ships with, whatever the environment says."""
    return httpx.create_ssl_context(trust_env=False)
