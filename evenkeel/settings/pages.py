"""The web pages of `evenkeel desk`: where they are served, and to whom."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Self

from pydantic import Field, field_validator, model_validator

from evenkeel.settings.section import Section


class Pages(Section):
    """Where `evenkeel desk` serves its pages. Who has the admin key (`admin.key_hash`) may log in."""

    host: str = "127.0.0.1"
    """Loopback, unless a proxy with TLS stands in front of it: then `proxy_names` says by which names it is asked."""
    port: int = Field(default=8470, ge=1, le=65_535)
    proxy_names: tuple[str, ...] = ()
    """Host names under which the proxy serves the pages, e.g. `desk.example.com`. Asked by one of them the pages give out
    cookies that a browser sends back by TLS alone. A request that names any other host is refused.
    """
    session_minutes: int = Field(default=720, ge=5, le=10_080)
    """How long after a login one has to log in again."""
    refresh_s: float = Field(default=2.0, ge=0.5, le=60)
    """Seconds between two readings of the ledger while somebody has the overview open: one for all of them."""

    @field_validator("proxy_names")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not re.fullmatch(
                r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", one
            ):
                raise ValueError("must be host names in lower case without a port, e.g. desk.example.com")
        return value

    @model_validator(mode="after")
    def _is_behind_tls(self) -> Self:
        if not self.proxy_names and not is_loopback(self.host):
            raise ValueError(
                f"pages.host is {self.host}: only loopback (127.0.0.1) is served without TLS; put a proxy with TLS in front "
                "and name it in pages.proxy_names (docs/deploy.md)"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether nobody but this host can reach it."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
