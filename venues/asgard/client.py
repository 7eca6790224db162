"""Asgard's HTTP interface: reads are retried, builds are opaque blobs, submits are sent once and never judged
final.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, NotUnderstood, Retryable, VenueRefused
from evenkeel.types import Confirmed, Outcome, Unknown
from venues.asgard.models import (
    LivePosition,
    LiveRows,
    Markets,
    PositionRecord,
    Seizure,
    Strategy,
    TokenInfo,
    Tokens,
    read_seizures,
)
from venues.asgard.on_chain import OnChain
from venues.ratebudget import RateBudget
from venues.reading import Oddities, Oddity, parse_json
from venues.shared import Gathered, SharedReads, once_for_all
from venues.timing import VenueTime

MAX_TRANSACTIONS = 4
READ_ATTEMPTS = 3
GATHER_S = 0.02
"""Wall seconds for which a question about a live position waits for others that can be asked with it."""
MOST_TOGETHER = 50
"""Live positions asked for in one call."""


class BuildBlob:
    """An answer of a build endpoint, kept whole because it must be handed back unchanged but for `signedTxs`.

    Only `signedTxs` is understood. Its keys are not documented, so a missing or odd list fails closed, and
    only key names are ever shown.
    """

    __slots__ = ("_body",)

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise VenueRefused("asgard", f"a build came as {type(body).__name__}, not as an object")
        encoded = body.get("signedTxs")
        if not isinstance(encoded, list) or not encoded or not all(isinstance(one, str) for one in encoded):
            raise VenueRefused("asgard", f"a build has no list of transactions; its keys are {sorted(body)}")
        if len(encoded) > MAX_TRANSACTIONS:
            raise VenueRefused(
                "asgard", f"a build has {len(encoded)} transactions, the limit is {MAX_TRANSACTIONS}"
            )
        self._body = body

    @property
    def encoded(self) -> list[str]:
        return list(self._body["signedTxs"])

    def hint(self, *names: str) -> Any:
        """Return an undocumented field under any of these names, or None. Never the only source of anything."""
        return next((self._body[name] for name in names if self._body.get(name) is not None), None)

    def with_signed(self, encoded: list[str]) -> dict[str, Any]:
        return self._body | {"signedTxs": encoded}

    def __repr__(self) -> str:
        return f"BuildBlob(keys={sorted(self._body)})"


class AsgardClient:
    """One service. Without a key the service allows one request a second for each IP address."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        api_key: str | None = None,
        budget: RateBudget | None = None,
        timeout_s: float = 15.0,
        transport: httpx.AsyncBaseTransport | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self.oddities = oddities or Oddities()
        self._url = url.rstrip("/")
        self.host = urlsplit(url).hostname or "?"
        self._clock = clock
        self.time = VenueTime(clock)
        """The service's clock, by the date of its answers."""
        self._budget = budget or RateBudget(clock, per_minute=600 if api_key else 60, burst=1)
        headers = {"X-API-Key": api_key} if api_key else {}
        self._http = httpx.AsyncClient(
            timeout=timeout_s, trust_env=False, headers=headers, transport=transport
        )
        self.shared: SharedReads | None = None
        """Reads markets, prices and redemption rates once for all accounts of this process."""
        self._gathered: Gathered[tuple[int, str], LivePosition | NotUnderstood] | None = None
        self.on_chain: OnChain | None = None
        """Reads live positions from their lenders' accounts; None where only Asgard is asked."""

    def __repr__(self) -> str:
        return f"AsgardClient({self.host})"

    async def close(self) -> None:
        if self._gathered is not None:
            await self._gathered.close()
        if self.on_chain is not None:
            await self.on_chain.close()
        if self.shared is not None:
            await self.shared.close()
        await self._http.aclose()

    def share(self, shared: SharedReads, on_chain: OnChain | None = None) -> None:
        """Read markets and prices once for all accounts of this process, and live positions in batches."""
        self.shared, self.on_chain = shared, on_chain
        self._gathered = Gathered(self._refresh_pairs, GATHER_S, MOST_TOGETHER)

    async def _once(self, method: str, path: str, body: dict[str, Any] | None, **query: str) -> str:
        """One request. Raises `Retryable` (unreachable, 429, 5xx) or `VenueRefused` (any other 4xx)."""
        await self._budget.spend()
        asked_ms = self._clock.now_ms()
        try:
            answer = await self._http.request(method, self._url + path, json=body, params=query or None)
        except httpx.HTTPError as error:
            raise Retryable(f"asgard {self.host} did not answer {path}: {type(error).__name__}") from None
        await self.time.note_date(asked_ms, answer.headers.get("date"))
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Retryable(
                f"asgard {self.host} answered {path} with HTTP {answer.status_code}: {_wording(answer)}"
            )
        if answer.status_code >= 400:
            raise VenueRefused("asgard", f"{path}: {_wording(answer)} (HTTP {answer.status_code})")
        return answer.text

    async def _read(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        """A request without effect on chain, retried; numbers arrive as Decimal."""
        for attempt in itertools.count(1):
            try:
                text = await self._once(method, path, body, **query)
                return parse_json(text)
            except ValueError:
                if attempt >= READ_ATTEMPTS:
                    why = NotUnderstood("asgard", f"{path} at {self.host}: not JSON")
                    raise self.oddities.not_understood(f"asgard {path}", why) from None
            except Retryable:
                if attempt >= READ_ATTEMPTS:
                    raise
            await self._clock.sleep(0.5 * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    async def markets(self) -> list[Strategy]:
        """Return every strategy on offer that can be read. Raises `NotUnderstood`."""
        return await once_for_all(self.shared, "markets", self._markets)

    async def _markets(self) -> list[Strategy]:
        found: Markets = self._understood("/markets", Markets, await self._read("GET", "/markets"))
        return list(found.strategies.values())

    async def token_metadata(self) -> list[TokenInfo]:
        """Return every token that can be read. Raises `NotUnderstood`."""
        return await once_for_all(self.shared, "tokens", self._tokens)

    async def _tokens(self) -> list[TokenInfo]:
        path = "/token-metadata"
        found: Tokens = self._understood(path, Tokens, await self._read("GET", path))
        return found.tokens

    async def positions(self, wallet: str) -> list[PositionRecord]:
        """Return the database rows of a wallet's open positions that can be read."""
        path = "/positions/open"
        answer = await self._read("POST", path, {"walletPubkey": wallet})
        rows = answer.get("positions") if isinstance(answer, dict) else answer
        found: list[PositionRecord] = self._understood(path, list[PositionRecord], rows)
        return found

    async def position(self, pda: str) -> PositionRecord | None:
        """Return the database row of a position, or None where there is none. Raises `NotUnderstood`."""
        path = "/positions/by-pda"
        try:
            answer = await self._read("POST", path, None, pda=pda)
        except VenueRefused as error:
            if "HTTP 404" in error.reason or "HTTP 422" in error.reason:
                return None
            raise
        if not answer:
            return None
        found: PositionRecord = self._understood(path, PositionRecord, answer)
        return found

    def is_unanswered(self, pda: str) -> bool:
        """Return whether the service did not answer when it was asked last for a position that is read from chain."""
        return self.on_chain is not None and pda in self.on_chain.unanswered

    async def refresh(
        self, positions: list[tuple[int, str]], *, on_chain: bool = False
    ) -> dict[str, LivePosition | NotUnderstood]:
        """Return the live view of (protocol, PDA) pairs, or why one cannot be understood; a PDA that is not on chain is
        simply absent. With `on_chain` from their lenders' accounts, where that is shared and the service's turn has not come.
        """
        if not positions:
            return {}
        if on_chain and self.on_chain is not None:
            return await self.on_chain.refresh(self.refresh, positions)
        if self._gathered is None:
            return await self._refresh(positions)
        found = await self._gathered.ask(positions)
        return {pda: one for (_, pda), one in found.items()}

    async def _refresh_pairs(
        self, pairs: Sequence[tuple[int, str]]
    ) -> dict[tuple[int, str], LivePosition | NotUnderstood]:
        found = await self._refresh(list(pairs))
        return {pair: found[pair[1]] for pair in pairs if pair[1] in found}

    async def _refresh(self, positions: list[tuple[int, str]]) -> dict[str, LivePosition | NotUnderstood]:
        path = "/refresh-positions"
        body = {"positionPDAs": [{"protocol": protocol, "positionPDA": pda} for protocol, pda in positions]}
        rows = self._understood(path, LiveRows, await self._read("POST", path, body)).positions
        found: dict[str, LivePosition | NotUnderstood] = {}
        odd: list[Oddity] = []
        for pda in dict.fromkeys(pda for _, pda in positions):
            if pda not in rows:
                continue
            try:
                found[pda] = one = LivePosition.parse(pda, rows[pda])
                odd += one.odd
            except NotUnderstood as why:
                found[pda] = why
                odd.append(Oddity(f"asgard {path}", pda, "", why.reason, lost=True))
        self.oddities.answered(f"asgard {path}", odd)
        return found

    def _understood(self, path: str, shape: Any, answer: Any) -> Any:
        return self.oddities.read("asgard", f"asgard {path}", shape, answer, part="row").value

    async def seizures(self, pda: str) -> tuple[list[Seizure], int]:
        """Return liquidation events of a position from the list of all, and how many there could not be read."""
        answer = await self._read("POST", "/all-liquidation-events", {})
        rows = answer.get("events") if isinstance(answer, dict) else answer
        found, unread = read_seizures(rows)
        return [one for one in found if one.pda == pda], unread

    async def build(self, path: str, body: dict[str, Any]) -> BuildBlob:
        """Ask for unsigned transactions; without effect on chain. Raises `Retryable` or `VenueRefused`."""
        text = await self._once("POST", path, body)
        try:
            return BuildBlob(json.loads(text))
        except (ValueError, RecursionError):
            raise NotUnderstood("asgard", f"{path} at {self.host}: not JSON") from None

    async def simulate(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a dry run of a build (`…-simulate`). Raises `VenueRefused` with the venue's reason."""
        answer = await self._read("POST", path, body)
        return answer if isinstance(answer, dict) else {}

    async def submit(self, path: str, body: dict[str, Any]) -> Outcome[dict[str, Any]]:
        """Hand over signed transactions, once. Confirmed = accepted, which our own node must still confirm.

        Never Rejected: a refusal, a 5xx and a time-out alike say nothing about the chain.
        """
        try:
            answer = parse_json(await self._once("POST", path, body))
        except UNREAD as error:
            return Unknown(str(error))
        except ValueError:
            return Unknown(f"asgard {self.host} answered {path} unparsably")
        if not isinstance(answer, dict) or answer.get("success") is False or answer.get("error"):
            return Unknown(f"asgard {self.host} answered {path} without success")
        return Confirmed(answer)


def _wording(answer: httpx.Response) -> str:
    """The venue's own words: `error` may be an object, a plain string, or missing from a page of HTML."""
    try:
        error = answer.json().get("error")
    except (ValueError, AttributeError, RecursionError):
        return "no error body"
    if isinstance(error, dict):
        parts = [str(error[key]) for key in ("code", "message") if error.get(key)]
        return ": ".join(parts) or "empty error"
    return str(error)[:200]
