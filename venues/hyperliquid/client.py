"""The venue's HTTP interface: typed reads that are retried, and one write that never is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import httpx

from evenkeel.clock import Clock, as_datetime
from evenkeel.errors import NOT_NOW, UNREAD, EvenkeelError, NotUnderstood, Retryable, VenueRefused, shown
from evenkeel.types import Answer, Confirmed, Rejected, Unknown
from venues.hyperliquid import models as m
from venues.ratebudget import Lane, RateBudget, in_lane
from venues.reading import Oddities, Oddity, Read, parse_json, read
from venues.shared import SharedReads, once_for_all
from venues.timing import VenueTime

VENUE = "hyperliquid"
_CANDLES = "candleSnapshot"
FUNDING_PAGE = 500
FILLS_PAGE = 2000
_READ_ATTEMPTS = 4
_ODD_ATTEMPTS = 2
"""For an answer of which nothing can be used: it may have been somebody else's."""
_READ_BACKOFF_S = 0.25
_RETRY_STATUS = (408, 425, 429)
_NOT_EXECUTED_STATUS = (400, 404, 405, 413, 415, 422)
"""HTTP answers that prove an action was refused before it was looked at."""

T = TypeVar("T")
RowT = TypeVar("RowT", m.WireFill, m.WireUserFunding, m.WireFundingRate, m.WireLedgerUpdate)

_WEIGHT_2 = frozenset(
    {"l2Book", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
_ROWS_PER_WEIGHT = 20
_STAMPED = frozenset({"l2Book", "clearinghouseState"})
"""Answers that say at which time of the venue they were made."""
_AHEAD_MS = 10_000
"""A stamp so far after the `Date` of its own answer is odd: an order is not called expired by it, and none is signed by it."""
_BEHIND_MS = 86_400_000
"""A stamp so far before it is odd too, not the age of a reading: a node that stands is noticed long before a day is over."""


def info_weight(kind: str) -> float:
    """Return the IP weight of an `/info` request before its rows are counted (docs, "Rate limits and user limits")."""
    if kind in _WEIGHT_2:
        return 2
    return 60 if kind == "userRole" else 20


def default_budget(clock: Clock) -> RateBudget:
    """Return at most 1140 of the 1200 weight units a minute that one IP address has: 300 saved up and 840 refilled."""
    return RateBudget(clock, per_minute=840, burst=300)


class HyperliquidClient:
    """One venue URL. Share the `budget` between everything in the process that talks to the same host.

    Reads raise `Retryable` (transport, 429, 5xx) after a few attempts, `VenueRefused`, or `NotUnderstood`. What could be read
    of an answer is returned; what did not fit is noted in `oddities`.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        timeout_s: float = 10,
        budget: RateBudget | None = None,
        http: httpx.AsyncClient | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._clock = clock
        self.time = VenueTime(clock)
        """The venue's clock, by what it stamps its answers with."""
        self.budget = budget or default_budget(clock)
        self.oddities = oddities or Oddities()
        self.shared: SharedReads | None = None
        """Reads prices, rates and settled funding once for all accounts of this process."""
        self._own_http = http is None
        self._http = http or httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    async def __aenter__(self) -> HyperliquidClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that this client opened itself."""
        if self._own_http:
            await self._http.aclose()

    # --- reads --------------------------------------------------------------------------------------------

    async def meta(self) -> m.WireMeta:
        return await self._info({"type": "meta"}, m.WireMeta)

    async def meta_and_asset_ctxs(self) -> tuple[m.WireMeta, list[m.WireAssetCtx | None]]:
        """Return what is listed, and prices and rates in the same order; None where a row cannot be read.

        Raises NotUnderstood where one list is longer than the other: whose prices are whose is not known then.
        """
        return await once_for_all(self.shared, "metaAndAssetCtxs", self._meta_and_asset_ctxs)

    async def _meta_and_asset_ctxs(self) -> tuple[m.WireMeta, list[m.WireAssetCtx | None]]:
        request = {"type": "metaAndAssetCtxs"}
        source = _source(request)
        found: list[Any] = await self._info(request, list[Any])
        try:
            if len(found) < 2:
                raise NotUnderstood(VENUE, f"{source} has {len(found)} parts, expected 2")
            meta = read(VENUE, source, m.WireMeta, found[0])
            contexts = read(VENUE, source, list[m.WireAssetCtx | None], found[1], part="prices")
            assets, prices = len(meta.value.universe), len(contexts.value)
            if assets != prices:
                raise NotUnderstood(VENUE, f"{source} lists {assets} assets and prices of {prices}")
        except NotUnderstood as why:
            raise self.oddities.not_understood(source, why) from None
        self.oddities.answered(source, [*meta.odd, *(_named(one, meta.value) for one in contexts.odd)])
        return meta.value, contexts.value

    def note_missing(self, kind: str, row: str, fields: Mapping[str, Any]) -> None:
        """Note what the last answer of this kind lacks of a row that somebody wants, beside what did not fit."""
        source = _source({"type": kind})
        absent = [name for name, value in fields.items() if value is None]
        self.oddities.add(source, [Oddity(source, row, name, "missing", lost=False) for name in absent])

    async def l2_book(self, coin: str) -> m.WireBook:
        return await self._info({"type": "l2Book", "coin": coin}, m.WireBook)

    async def clearinghouse_state(self, user: str) -> m.WireClearinghouseState:
        """Return the account's positions and margin; a position that cannot be read is named in `lost`."""
        found = await self._reading({"type": "clearinghouseState", "user": user}, m.WireClearinghouseState)
        state: m.WireClearinghouseState = found.value
        return state.model_copy(update={"lost": found.lost("assetPositions")}) if found.odd else state

    async def spot_clearinghouse_state(self, user: str) -> m.WireSpotState:
        found = await self._reading({"type": "spotClearinghouseState", "user": user}, m.WireSpotState)
        state: m.WireSpotState = found.value
        return state.model_copy(update={"lost": found.lost("balances")}) if found.odd else state

    async def order_status(self, user: str, oid: int | str) -> m.WireOrderStatus:
        """Return the status of an order by oid or cloid. `user` is the account, never an agent."""
        return await self._info({"type": "orderStatus", "user": user, "oid": oid}, m.WireOrderStatus)

    async def frontend_open_orders(self, user: str, *, whole: bool = True) -> list[m.WireOrder]:
        """Return every order that rests or waits for its trigger. Raises NotUnderstood where one cannot be read, unless those
        that can be are enough.
        """
        found = await self._reading({"type": "frontendOpenOrders", "user": user}, list[m.WireOrder])
        if whole and any(one.lost for one in found.odd):
            raise NotUnderstood(VENUE, f"frontendOpenOrders: {found.odd[0]}")
        orders: list[m.WireOrder] = found.value
        return orders

    async def user_abstraction(self, user: str) -> str:
        return await self._info({"type": "userAbstraction", "user": user}, str)

    async def extra_agents(self, user: str) -> list[m.WireAgent]:
        """Return the account's agents. Raises NotUnderstood where one that may be ours cannot be read."""
        found = await self._reading({"type": "extraAgents", "user": user}, list[m.WireAgent])
        if any(one.lost for one in found.odd):
            raise NotUnderstood(VENUE, f"extraAgents: {found.odd[0]}")
        agents: list[m.WireAgent] = found.value
        return agents

    async def user_fills_by_time(
        self, user: str, start_ms: int, end_ms: int | None = None
    ) -> list[m.WireFill]:
        """Return every fill in [start, end], oldest first. The venue keeps the latest 10,000.

        Where that answer cannot be had or read, the list of the latest 2,000 serves, if it reaches back to the start.
        """
        request = {"type": "userFillsByTime", "user": user}
        try:
            return await self._pages(
                request, m.WireFill, FILLS_PAGE, lambda row: row.fill_id, start_ms, end_ms
            )
        except UNREAD as fault:
            latest = await self._latest_fills(user, start_ms, end_ms)
            if latest is None:
                raise fault from None
            return latest

    async def _latest_fills(self, user: str, start_ms: int, end_ms: int | None) -> list[m.WireFill] | None:
        """The fills in [start, end], oldest first, out of the latest 2,000; None where these may not be all, or are unread."""
        try:
            found = await self._reading({"type": "userFills", "user": user}, list[m.WireFill])
        except UNREAD:
            return None
        rows: list[m.WireFill] = found.value
        reaches_back = len(rows) < FILLS_PAGE or min(row.time for row in rows) < start_ms
        if any(one.lost for one in found.odd) or not reaches_back:
            return None
        within = [row for row in rows if start_ms <= row.time and (end_ms is None or row.time <= end_ms)]
        return sorted(within, key=lambda row: row.time)

    async def user_funding(
        self, user: str, start_ms: int, end_ms: int | None = None
    ) -> list[m.WireUserFunding]:
        """Return every funding payment in [start, end] on every coin, oldest first."""
        request = {"type": "userFunding", "user": user}
        return await self._pages(
            request, m.WireUserFunding, FUNDING_PAGE, lambda row: (row.time, row.delta.coin), start_ms, end_ms
        )

    async def funding_history(
        self, coin: str, start_ms: int, end_ms: int | None = None
    ) -> list[m.WireFundingRate]:
        """Return every settled rate in [start, end], oldest first."""
        request = {"type": "fundingHistory", "coin": coin}
        return await self._pages(
            request, m.WireFundingRate, FUNDING_PAGE, lambda row: row.time, start_ms, end_ms
        )

    async def candles(self, coin: str, interval: str, start_ms: int, end_ms: int) -> list[m.WireCandle]:
        """Return the candles that touch [start, end], among the 5,000 newest of that interval, as the venue orders them."""
        asked = {"coin": coin, "interval": interval, "startTime": start_ms, "endTime": end_ms}
        return await self._info({"type": _CANDLES, "req": asked}, list[m.WireCandle] | None) or []

    def note_candles(self, interval: str, odd: Iterable[tuple[int, str, str]]) -> None:
        """Note candles of the last answer that contradict themselves and are left out: begin, field, what is wrong with it."""
        source = _source({"type": _CANDLES, "req": {"interval": interval}})
        rows = ((f"{as_datetime(open_ms):%Y-%m-%dT%H:%M}", name, what) for open_ms, name, what in odd)
        self.oddities.add(source, [Oddity(source, row, name, what, lost=True) for row, name, what in rows])

    async def non_funding_ledger(
        self, user: str, start_ms: int, end_ms: int | None = None
    ) -> list[m.WireLedgerUpdate]:
        """Return deposits, withdrawals and transfers in [start, end], oldest first."""
        request = {"type": "userNonFundingLedgerUpdates", "user": user}
        return await self._pages(
            request,
            m.WireLedgerUpdate,
            FUNDING_PAGE,
            lambda row: (row.time, row.hash, json.dumps(row.delta, sort_keys=True, default=str)),
            start_ms,
            end_ms,
        )

    # --- the write ----------------------------------------------------------------------------------------

    async def exchange(self, body: str) -> Answer[dict[str, Any]]:
        """POST a signed body once. Never raises for transport and never retries.

        Confirmed holds the venue's JSON (`status` may still be "err"); Rejected means refused before it was
        looked at; Unknown covers time-outs, resets, 429, 5xx and answers that cannot be read.
        """
        try:
            with in_lane(Lane.URGENT):
                await self.budget.spend(1)
        except EvenkeelError as error:
            return Unknown(f"not sent: {error}")
        try:
            answer = await self._http.post(
                f"{self.base_url}/exchange",
                content=body.encode(),
                headers={"content-type": "application/json"},
            )
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            return Unknown(f"no answer from the venue: {type(error).__name__} {error}".strip())
        if answer.status_code in _NOT_EXECUTED_STATUS:
            return Rejected(f"HTTP {answer.status_code}: {answer.text[:200]}")
        if answer.status_code != 200:
            return Unknown(f"HTTP {answer.status_code} answered to an action")
        try:
            parsed = parse_json(answer.content)
        except ValueError:
            return Unknown("the answer to an action is not JSON")
        if not isinstance(parsed, dict) or parsed.get("status") not in ("ok", "err"):
            return Unknown("the answer to an action has no known status")
        return Confirmed(parsed)

    # --- how reads are made -------------------------------------------------------------------------------

    async def _info(self, request: dict[str, Any], shape: Any) -> Any:
        """What could be read of one answer."""
        return (await self._reading(request, shape)).value

    async def _reading(
        self, request: dict[str, Any], shape: Any, since_ms: int | None = None, raw: list[Any] | None = None
    ) -> Read[Any]:
        """One read, retried a few times with growing, jittered pauses of the injected clock. What did not fit is noted.
        `raw`: the answer as it came is put in here.
        """
        for attempt in range(1, _READ_ATTEMPTS + 1):
            try:
                parsed = await self._info_once(request)
                found = self.oddities.read(VENUE, _source(request), shape, parsed, since_ms=since_ms)
                break
            except NOT_NOW as error:
                if attempt == (_READ_ATTEMPTS if isinstance(error, Retryable) else _ODD_ATTEMPTS):
                    raise
            await self._clock.sleep(_READ_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))
        if raw is not None:
            raw[:] = parsed
        return found

    async def _info_once(self, request: dict[str, Any]) -> Any:
        kind = request["type"]
        await self.budget.spend(info_weight(kind))
        asked_ms = self._clock.now_ms()
        try:
            answer = await self._http.post(f"{self.base_url}/info", json=request)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise Retryable(
                f"hyperliquid {kind} at {self.base_url}: {type(error).__name__} {error}".strip()
            ) from error
        if answer.status_code in _RETRY_STATUS or answer.status_code >= 500:
            raise Retryable(f"hyperliquid {kind} at {self.base_url}: HTTP {answer.status_code}")
        if answer.status_code != 200:
            raise VenueRefused(VENUE, f"{kind}: HTTP {answer.status_code} {answer.text[:200]}")
        try:
            parsed = parse_json(answer.content)
        except ValueError:
            why = NotUnderstood(VENUE, f"{kind} at {self.base_url}: not JSON")
            raise self.oddities.not_understood(_source(request), why) from None
        date_ms = await self.time.note_date(asked_ms, answer.headers.get("date"))
        stamp = parsed.get("time") if kind in _STAMPED and isinstance(parsed, dict) else None
        if isinstance(stamp, int) and 0 < stamp < 10**14:
            ahead_ms = 0 if date_ms is None else stamp - date_ms
            if not -_BEHIND_MS <= ahead_ms <= _AHEAD_MS:  # the answer contradicts itself
                parsed["time"] = f"{stamp}, its date {date_ms}"
            else:
                await self.time.note(asked_ms, stamp)
        if kind not in _WEIGHT_2 and isinstance(parsed, list):
            await self.budget.spend(len(parsed) // _ROWS_PER_WEIGHT)
        return parsed

    async def _pages(
        self,
        request: dict[str, Any],
        row_type: type[RowT],
        page_size: int,
        key: Callable[[RowT], Hashable],
        start_ms: int,
        end_ms: int | None,
    ) -> list[RowT]:
        """All rows of a time range that can be read. A page starts at the last time of the page before, inclusive, so that
        rows which share a millisecond are not lost; rows seen twice are dropped by their key."""
        seen: dict[Hashable, RowT] = {}
        odd: list[Oddity] = []
        asked_ms = start_ms
        while True:
            body = {**request, "startTime": start_ms}
            if end_ms is not None:
                body["endTime"] = end_ms
            raw: list[Any] = []
            found = await self._reading(body, list[row_type], asked_ms, raw)  # type: ignore[valid-type]
            page: list[RowT] = found.value
            before = len(seen)
            for row in page:
                seen.setdefault(key(row), row)
            odd += [one for one in found.odd if one not in odd]
            if len(raw) < page_size or not page:
                self.oddities.answered(_source(request), odd + _fees_not_counted(seen.values()), asked_ms)
                return sorted(seen.values(), key=lambda row: row.time)
            latest = max(row.time for row in page)
            start_ms = latest + 1 if len(seen) == before or latest == start_ms else latest


def _source(request: dict[str, Any]) -> str:
    """The name of an answer in alerts: the kind, whose it is where that is public, and of candles how long they are."""
    named = (request.get("coin", ""), request.get("req", {}).get("interval", ""))
    return " ".join(word for word in (VENUE, request["type"], *named) if word)


def _named(odd: Oddity, meta: m.WireMeta) -> Oddity:
    """An oddity among the prices, with the name of its asset."""
    place = odd.row.rpartition("#")[2]
    asset = meta.universe[int(place)] if place.isdigit() and int(place) < len(meta.universe) else None
    return odd if asset is None else replace(odd, row=f"prices {asset.name}")


def _fees_not_counted(rows: Iterable[Any]) -> list[Oddity]:
    """Fills whose fee is in a token that the books do not count in."""
    return [
        Oddity(f"{VENUE} userFillsByTime", row.fill_id, "feeToken", shown(row.fee_token), False, row.time)
        for row in rows
        if isinstance(row, m.WireFill) and not row.fee_is_known
    ]
