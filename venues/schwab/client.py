"""Schwab's HTTP interface: typed reads that are retried, and one write that never is."""

from __future__ import annotations

import asyncio
import random
from datetime import date
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from evenkeel.clock import Clock, as_datetime, ms_of_date
from evenkeel.errors import NOT_NOW, EvenkeelError, NotUnderstood, OperatorError, Retryable, VenueRefused
from evenkeel.tls import tls
from evenkeel.types import Answer, Confirmed, Rejected, Unknown
from venues.ratebudget import Lane, RateBudget, in_lane
from venues.reading import Oddities, Read, parse_json
from venues.schwab import models as m
from venues.schwab.models import VENUE
from venues.timing import VenueTime

CONNECT_S, TOTAL_S = 10.0, 30.0
REQUESTS_PER_MINUTE = 110
"""Of the 120 order requests a minute that an app may have; the quota of readings is not published."""
_ACCOUNTS = "/trader/v1/accounts/"
_READ_ATTEMPTS = 3
_BACKOFF_S = 0.25
_REFUSED_STATUS = (400, 401, 403, 404, 405, 413, 415, 422)
"""HTTP answers that prove an order was refused before it was placed."""
SHORTEST_WAIT_S, LONGEST_WAIT_S, LONGEST_OWN_WAIT_S = 1.0, 300.0, 60.0
"""Between which `Retry-After` is taken; without one the wait doubles up to the last."""


class TokenSource(Protocol):
    """Where access tokens come from."""

    async def access(self) -> str:
        """Return a token that lives. Raises OperatorError where a person must log in, Retryable where none can be had now."""
        ...

    def refused(self, token: str) -> None:
        """Note that the venue does not take this token any more: the next `access` gives another one."""
        ...


class SchwabClient:
    """One host. Reads raise Retryable (transport, 429, 5xx), NotUnderstood, or VenueRefused, also where a person must log in.
    What could be read of an answer is returned; what did not fit is noted in `oddities`.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        tokens: TokenSource,
        *,
        http: httpx.AsyncClient | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        budget: RateBudget | None = None,
        oddities: Oddities | None = None,
        total_s: float = TOTAL_S,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.clock = clock
        self._tokens = tokens
        self._total_s = total_s
        self.time = VenueTime(clock)
        """The venue's clock, by the `Date` of its answers."""
        self.budget = budget or RateBudget(clock, REQUESTS_PER_MINUTE)
        self.oddities = oddities or Oddities()
        self._own_http = http is None
        self._http = http or httpx.AsyncClient(
            timeout=httpx.Timeout(total_s, connect=CONNECT_S),
            trust_env=False,
            verify=tls(),
            transport=transport,
        )
        self._waits_until_ms = 0
        self._own_wait_s = 0.0
        self.refused_accounts: set[str] = set()
        """Hashes that the venue said are no account's, until it names them again."""

    async def __aenter__(self) -> SchwabClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that this client opened itself."""
        if self._own_http:
            await self._http.aclose()

    async def ready(self) -> None:
        """Return where a request can leave now. Raises Retryable while the venue has us wait, and what `access` raises."""
        self._wait_over()
        await self._tokens.access()

    # --- reads ------------------------------------------------------------------------------------------------

    async def account_numbers(self) -> list[m.WireAccountNumber]:
        return (await self._get("/trader/v1/accounts/accountNumbers", {}, list[m.WireAccountNumber])).value  # type: ignore[no-any-return]

    async def account(self, account: str, *, positions: bool) -> Read[m.WireAccount]:
        """Return balances of an account, by its hash, with its positions where asked for."""
        asked = {"fields": "positions"} if positions else {}
        return await self._get(f"/trader/v1/accounts/{account}", asked, m.WireAccount, what="account")

    async def order(self, account: str, order_id: str) -> m.WireOrder | None:
        """Return an order by its id; None where the venue does not know it."""
        path = f"/trader/v1/accounts/{account}/orders/{order_id}"
        try:
            return (await self._get(path, {}, m.WireOrder, what="order")).value  # type: ignore[no-any-return]
        except _NotFound:
            return None

    async def orders(self, account: str, from_ms: int, until_ms: int) -> Read[list[m.WireOrder]]:
        """Return the orders that were entered in [from, until]; what was left out of the list stands in `odd`."""
        asked = {"fromEnteredTime": _iso(from_ms), "toEnteredTime": _iso(until_ms)}
        return await self._get(
            f"/trader/v1/accounts/{account}/orders", asked, list[m.WireOrder], what="orders"
        )

    async def quotes(self, symbol: str) -> dict[str, Any]:
        """Return what is answered of a symbol, by symbol, and under "errors" what is not known."""
        asked = {"symbols": symbol, "fields": "quote"}
        return (await self._get("/marketdata/v1/quotes", asked, dict[str, Any], what="quotes")).value  # type: ignore[no-any-return]

    async def hours(self, day: date) -> dict[str, dict[str, m.WireMarketDay]]:
        """Return the equity market's day, by market and product."""
        asked = {"markets": "equity", "date": day.isoformat()}
        shape = dict[str, dict[str, m.WireMarketDay]]
        return (await self._get("/marketdata/v1/markets", asked, shape, what=f"hours {day}")).value  # type: ignore[no-any-return]

    # --- the write --------------------------------------------------------------------------------------------

    async def place(self, account: str, body: str) -> Answer[str | None]:
        """POST an order once. Never raises for transport and never retries.

        Confirmed holds the order's id, None where the answer does not name it; Rejected: nothing was placed; Unknown covers
        time-outs, resets, 429, 5xx.
        """
        try:
            self._wait_over()
            token = await self._tokens.access()
            with in_lane(Lane.URGENT):
                await self.budget.spend(1)
        except EvenkeelError as error:
            return Rejected(f"nothing was sent: {error}")
        asked_ms = self.clock.now_ms()
        try:
            async with asyncio.timeout(self._total_s):
                answer = await self._http.post(
                    f"{self.base_url}/trader/v1/accounts/{account}/orders",
                    content=body.encode(),
                    headers=_headers(token) | {"content-type": "application/json"},
                )
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            return Unknown(f"no answer to an order: {type(error).__name__}")
        await self.time.note_date(asked_ms, answer.headers.get("date"))
        if answer.status_code == 201:
            self._own_wait_s = 0.0
            return Confirmed(_last_segment(answer.headers.get("location", "")))
        if answer.status_code == 401:
            self._tokens.refused(token)
        if answer.status_code == 429:
            self._note_wait(answer)
        if _is_of_no_account(answer):
            self.refused_accounts.add(account)
        if answer.status_code in _REFUSED_STATUS:
            return Rejected(f"HTTP {answer.status_code}: {_words(answer)}")
        return Unknown(f"HTTP {answer.status_code} answered to an order")

    # --- how reads are made -----------------------------------------------------------------------------------

    async def _get(
        self, path: str, asked: dict[str, str], shape: Any, *, what: str = "accountNumbers"
    ) -> Read[Any]:
        for attempt in range(1, _READ_ATTEMPTS + 1):
            try:
                raw = await self._get_once(path, asked, what)
                return self.oddities.read(VENUE, what.split()[0], shape, raw, part=what)
            except NOT_NOW as error:
                if attempt == _READ_ATTEMPTS or isinstance(error, _Waits):
                    raise
            await self.clock.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    async def _get_once(self, path: str, asked: dict[str, str], what: str) -> Any:
        account = path.split("/")[4] if path.startswith(_ACCOUNTS) and what != "accountNumbers" else ""
        answer = await self._answer(path, asked, what)
        if answer.status_code == 401:  # the token ended before its time: once more with another one
            answer = await self._answer(path, asked, what)
        if answer.status_code == 429:
            raise _Waits(f"schwab {what}: HTTP 429, asked to wait for {self._note_wait(answer):.0f} s")
        if answer.status_code in (408, 425) or answer.status_code >= 500:
            raise Retryable(f"schwab {what} at {self.host}: HTTP {answer.status_code}")
        if answer.status_code == 401:
            raise VenueRefused(
                VENUE, f"{what}: no token of this login is taken; log in: `evenkeel auth schwab`"
            )
        if account and (_is_of_no_account(answer) or (answer.status_code == 404 and what != "order")):
            self.refused_accounts.add(account)
            raise AccountUnknown(VENUE, f"{what}: HTTP {answer.status_code} {_words(answer)}")
        if answer.status_code == 404:
            raise _NotFound(VENUE, f"{what}: HTTP 404 {_words(answer)}")
        if answer.status_code != 200:
            raise VenueRefused(VENUE, f"{what}: HTTP {answer.status_code} {_words(answer)}")
        self._own_wait_s = 0.0
        try:
            return parse_json(answer.content)
        except ValueError:
            raise NotUnderstood(VENUE, f"{what}: the answer is not JSON") from None

    async def _answer(self, path: str, asked: dict[str, str], what: str) -> httpx.Response:
        self._wait_over()
        try:
            token = await self._tokens.access()
        except OperatorError as no_login:  # one reading less, where everything else of a pass goes on
            raise VenueRefused(VENUE, f"{what}: {no_login}") from None
        await self.budget.spend(1)
        asked_ms = self.clock.now_ms()
        try:
            async with asyncio.timeout(self._total_s):
                answer = await self._http.get(f"{self.base_url}{path}", params=asked, headers=_headers(token))
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise Retryable(f"schwab {what} at {self.host}: {type(error).__name__}") from None
        await self.time.note_date(asked_ms, answer.headers.get("date"))
        if answer.status_code == 401:
            self._tokens.refused(token)
        return answer

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    def _wait_over(self) -> None:
        left_ms = self._waits_until_ms - self.clock.now_ms()
        if 0 < left_ms <= LONGEST_WAIT_S * 1000:
            raise _Waits(f"schwab has us wait for {left_ms / 1000:.0f} s more (HTTP 429 before)")

    def _note_wait(self, answer: httpx.Response) -> float:
        """Seconds for which nothing is asked any more: what the venue names, else a wait that doubles."""
        named = _retry_after_s(answer.headers.get("retry-after", ""), self.clock.now_ms())
        if named is None:
            self._own_wait_s = min(max(SHORTEST_WAIT_S, 2 * self._own_wait_s), LONGEST_OWN_WAIT_S)
        wait_s = self._own_wait_s if named is None else min(max(SHORTEST_WAIT_S, named), LONGEST_WAIT_S)
        self._waits_until_ms = self.clock.now_ms() + round(wait_s * 1000)
        return wait_s


class _Waits(Retryable):
    """The venue has us wait: asking again at once makes it longer."""


class AccountUnknown(VenueRefused):
    """The hash under which something was asked is no account's, or is it no more."""


class _NotFound(VenueRefused):
    """What was asked for is not there."""


def _headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "accept": "application/json"}


def _is_of_no_account(answer: httpx.Response) -> bool:
    """Whether it says that the account of the path is none: in public reports HTTP 400 with these words."""
    return answer.status_code == 400 and "invalid account" in _words(answer).lower()


def _iso(ms: int) -> str:
    return as_datetime(ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _last_segment(location: str) -> str | None:
    """The id in a `Location`, whatever its host: its last part, where that is a number of 64 bits."""
    last = urlsplit(location).path.rstrip("/").rpartition("/")[2]
    return last if last.isascii() and last.isdigit() and 0 < int(last) < 2**63 else None


def _words(answer: httpx.Response) -> str:
    """The venue's own words for a refusal, in one line."""
    try:
        body = answer.json()
        said = [str(body.get("message") or ""), *(str(one) for one in body.get("errors") or ())]
        text = "; ".join(one for one in said if one)
    except (ValueError, AttributeError, TypeError):
        text = answer.text
    return " ".join(text.split())[:200]


def _retry_after_s(text: str, now_ms: int) -> float | None:
    """Seconds or a date; None where it is neither."""
    if (seconds := text.strip()).isascii() and seconds.isdigit():
        return float(seconds)
    until_ms = ms_of_date(text)
    return None if until_ms is None else (until_ms - now_ms) / 1000
