"""What a process of tests need not do twice: the same outcome as without, for less of a core.

A story asks some two hundred times, each time at one of the same few addresses, and no venue sets a cookie; each test opens
a ledger of its own, for which the same statements would be put into SQL again.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import httpx
import httpx._transports.default as transports
import httpx._urls as urls

from state import engine

ADDRESSES = 4096
"""Of so many the parts are kept."""


class Compiled(dict[Any, Any]):
    """Statements as SQL, for all databases that are reached by the same driver: SQLAlchemy keeps them for each engine alone."""

    @staticmethod
    def _of(key: tuple[Any, ...]) -> tuple[Any, ...]:
        dialect, *statement = key
        return (dialect.name, dialect.driver, *statement)

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get(self._of(key), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__(self._of(key), compiled)


@cache
def make_quick() -> None:
    """From now on keep what does not change while a process lives: certificates, parts of addresses, compiled statements."""
    transports.create_ssl_context = cache(transports.create_ssl_context)
    urls.urlparse = lru_cache(ADDRESSES)(urls.urlparse)
    _skip_cookies_where_there_are_none()
    _share_compiled_statements()


def _skip_cookies_where_there_are_none() -> None:
    read, write = httpx.Cookies.extract_cookies, httpx.Cookies.set_cookie_header

    def extract_cookies(self: httpx.Cookies, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            read(self, response)

    def set_cookie_header(self: httpx.Cookies, request: httpx.Request) -> None:
        if len(self.jar):
            write(self, request)

    httpx.Cookies.extract_cookies = extract_cookies  # type: ignore[method-assign]
    httpx.Cookies.set_cookie_header = set_cookie_header  # type: ignore[method-assign]


def _share_compiled_statements() -> None:
    create, compiled = engine.create_engine, Compiled()

    def create_engine(*given: Any, **options: Any) -> Any:
        made = create(*given, **options)
        made.update_execution_options(compiled_cache=compiled)
        return made

    engine.create_engine = create_engine
