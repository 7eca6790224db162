"""The adapter of what is no order: shares that become tokens, USDC that leaves the wallet, journals between two accounts.

None of it has an id that is taken once: Alpaca's `client_request_id` may be used again and then makes tokens again. So the
bytes of a move leave once, within a few seconds of their signing, and never again. What became of one is asked by the mark
that it carries; a payment out has none, and is found by address, amount and time among those that no other move has. Once the
broker has named its row, that row is asked for, whatever else looks like it. One that was entered when ours could not arrive
any more is somebody else's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Set
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from evenkeel.errors import UNREAD, Bug, OperatorError, Retryable, VenueRefused
from evenkeel.types import (
    Answer,
    Built,
    Confirmed,
    Frozen,
    IntentSpec,
    Outcome,
    Receipt,
    Rejected,
    Signed,
    Unknown,
    Working,
)
from venues.alpaca.transfers import AlpacaTransfers, WireJournal, WireTokenization, WireTransfer
from venues.alpaca.venue import APART_S, DEAD_AFTER_MS, SENDS_FOR_MS
from venues.broker_rules import decimals_of

NAME = "alpaca-moves"
MINT, PAY_OUT, JOURNAL = "mint", "pay-out", "journal"
ASK_S = 5.0
EARLIER_MS = 60_000
"""By so much the broker's clock may be behind ours in the time of a payment."""
LATER_MS = DEAD_AFTER_MS + 60_000
"""So long after ours could leave for the last time the broker may still have entered it, its clock ahead of ours included."""
JOURNALED = frozenset({"executed"})
JOURNAL_ENDED = frozenset({"rejected", "canceled", "deleted", "refused"})
Row: TypeAlias = WireTokenization | WireTransfer | WireJournal
Claims: TypeAlias = Callable[[], Set[str]]
"""Rows of the broker's that confirmed moves have."""
Known: TypeAlias = Callable[[str], str | None]
"""By intent the broker's row that it is, as the broker has said or a person has chosen."""


class MintOrder(Frozen):
    """Shares of a symbol, tokens of which go to a wallet."""

    symbol: str
    qty: Decimal = Field(gt=0, lt=10**12)
    wallet: str
    network: str
    issuer: str


class PayOutOrder(Frozen):
    """USDC to an address of ours."""

    usdc: Decimal = Field(gt=0, lt=10**12)
    address: str


class JournalOrder(Frozen):
    """Dollars (`USD`) or shares of a symbol from one account of the broker to the other."""

    what: str
    amount: Decimal = Field(gt=0, lt=10**12)
    way: Literal["out", "back"]


AnyOrder: TypeAlias = MintOrder | PayOutOrder | JournalOrder
_ORDERS: dict[str, TypeAdapter[Any]] = {
    MINT: TypeAdapter(MintOrder),
    PAY_OUT: TypeAdapter(PayOutOrder),
    JOURNAL: TypeAdapter(JournalOrder),
}


class Bounds(Frozen):
    """What a move may be at most: shares of a symbol, USDC or dollars (`USD`); and where it may go."""

    most: dict[str, Decimal]
    wallet: str
    """Our address: the only one that tokens and USDC go to."""


class AlpacaMoves:
    """The moves of one account with wallets, and the journals between it and the one that hedges (`hedging`)."""

    name = NAME

    def __init__(
        self,
        transfers: AlpacaTransfers,
        hedging: AlpacaTransfers,
        bounds: Bounds,
        claims: Claims = frozenset,
        known: Known = lambda intent_id: None,
    ) -> None:
        self.transfers, self.hedging = transfers, hedging
        self._bounds = bounds
        self._claims, self._known = claims, known
        self._clock = transfers.client.clock

    def __repr__(self) -> str:
        return f"AlpacaMoves({self.transfers.client.host})"

    async def build(self, intent: IntentSpec) -> Built:
        """Return the order. Raises VenueRefused for one that bounds or whitelist do not allow, Retryable while the broker asks
        for fewer calls, UNREAD where the whitelist cannot be read.
        """
        order = _order(intent)
        if why := self._why_not(order):
            raise VenueRefused(self.name, why)
        await self.transfers.client.pressure.passed()
        if isinstance(order, PayOutOrder):
            listed = {one.address.lower(): one.status for one in await self.transfers.whitelist()}
            status = listed.get(order.address.lower())
            if status != "APPROVED":
                raise VenueRefused(
                    self.name,
                    f"{order.address} is {status or 'not'} on the whitelist: `evenkeel hedging rebalance allow` asks for it",
                )
        return Built(payload=order, note=order.model_dump(mode="json"))

    def _why_not(self, order: AnyOrder) -> str | None:
        most, wallet = self._bounds.most, self._bounds.wallet
        if isinstance(order, JournalOrder):
            named, amount, places = order.what, order.amount, 2 if order.what == "USD" else 9
        elif isinstance(order, MintOrder):
            named, amount, places = order.symbol, order.qty, 9
            if order.wallet.lower() != wallet:
                return f"its tokens go to {order.wallet}, allowed is {wallet}"
        else:
            named, amount, places = "USDC", order.usdc, 6
            if order.address.lower() != wallet:
                return f"it pays {order.address}, allowed is {wallet}"
        if named not in most:
            return f"{named} is not among what is moved: {', '.join(sorted(most))}"
        if amount > most[named]:
            return f"it moves {amount} {named}, allowed is at most {most[named]}"
        if decimals_of(amount) > places:
            return f"{amount} {named} has more than {places} decimals"
        return None

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the order and its key: a new mark, and until when it may leave."""
        order: AnyOrder = built.payload
        if why := self._why_not(order):
            raise VenueRefused(self.name, why)
        now_ms = self._clock.now_ms()
        key = {"mark": f"ek-{uuid.uuid4()}", "at_ms": now_ms, "until_ms": now_ms + SENDS_FOR_MS}
        return Signed(key=key, wire=order)

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Put it on the wire once."""
        order, mark, until_ms = signed.wire, str(signed.key["mark"]), int(signed.key["until_ms"])
        said: Answer[Any]
        try:
            if isinstance(order, MintOrder):
                said = await self.transfers.mint(
                    order.symbol, order.qty, order.wallet, order.network, order.issuer, mark, until_ms
                )
            elif isinstance(order, PayOutOrder):
                said = await self.transfers.send_usdc(order.usdc, order.address, until_ms)
            elif isinstance(order, JournalOrder):
                said = await self._journal(order, mark, until_ms)
            else:
                raise Bug(f"{intent.intent_id} was signed and its order is gone")
        except (OperatorError, VenueRefused) as refused:
            raise Bug(f"{intent.intent_id} passed its bounds and cannot be sent: {refused}") from None
        return self._outcome(said.value, order) if isinstance(said, Confirmed) else said

    async def _journal(self, order: JournalOrder, mark: str, until_ms: int) -> Answer[WireJournal]:
        giver, taker = self._ends(order)
        to = str(taker.client.access.account_id)
        if order.what == "USD":
            return await giver.journal_cash(to, order.amount, mark, until_ms)
        return await giver.journal_shares(to, order.what, order.amount, mark, until_ms)

    def _ends(self, order: JournalOrder) -> tuple[AlpacaTransfers, AlpacaTransfers]:
        there = (self.hedging, self.transfers)
        return there if order.way == "out" else (there[1], there[0])

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Send nothing: a copy would move it again."""
        return Unknown("a move is never sent twice: it is only asked for", answered=True)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Ask what became of it. Only a request for tokens has an answer that it is not there; what a list does not show proves
        nothing, and a person says that it never left (`evenkeel hedging rebalance unsent`).
        """
        order, mark = _order(intent), str(signed.key["mark"])
        try:
            if isinstance(order, MintOrder):
                return await self._find_mint(order, mark, int(signed.key["until_ms"]))
            rows = await self.candidates(intent, signed.key)
        except UNREAD as error:
            return Unknown(str(error), answered=not isinstance(error, Retryable))
        if len(rows) == 1:
            return self._outcome(rows[0], order)
        if rows:
            named = ", ".join(one.id for one in rows)
            return Unknown(
                f"{len(rows)} rows of the broker's may be it ({named}): a person decides", answered=True
            )
        return Unknown("the broker's list does not show it, which proves nothing", answered=True)

    async def candidates(self, intent: IntentSpec, key: dict[str, Any]) -> list[WireTransfer | WireJournal]:
        """Return the rows that may be this move; the one that it is, where that is known. Raises UNREAD."""
        rows = await self._alike(_order(intent), key)
        known = self._known(intent.intent_id)
        return rows if known is None else [one for one in rows if one.id == known]

    async def _alike(self, order: AnyOrder, key: dict[str, Any]) -> list[WireTransfer | WireJournal]:
        mark = str(key["mark"])
        if isinstance(order, JournalOrder):
            giver, _ = self._ends(order)
            account = giver.client.access.account_id
            rows = await giver.journals()
            return [one for one in rows if one.description == mark and one.from_account in (None, account)]
        if not isinstance(order, PayOutOrder):
            return []
        claimed = self._claims()
        return [
            one
            for one in await self.transfers.transfers()
            if one.direction == "OUTGOING"
            and (one.to_address or "").lower() == order.address.lower()
            and one.amount == order.usdc
            and int(key["at_ms"]) - EARLIER_MS <= (one.created_ms or 0) <= int(key["until_ms"]) + LATER_MS
            and one.id not in claimed
        ]

    async def _find_mint(self, order: MintOrder, mark: str, until_ms: int) -> Outcome[Receipt]:
        for is_second in (False, True):
            found = await self.transfers.tokenization(mark)
            if found is not None:
                return self._outcome(found, order)
            waited_ms = self._clock.now_ms() - until_ms
            if waited_ms < DEAD_AFTER_MS:
                return Unknown(f"it knows no request {mark}, which may still be on its way", answered=True)
            if not is_second:
                await self._clock.sleep(APART_S)
        return Rejected(
            f"never accepted: it knows no request {mark}, asked twice, the last time {waited_ms // 1000} s after it "
            "could leave"
        )

    def _outcome(self, row: Row, order: AnyOrder) -> Outcome[Receipt]:
        """Return what a row of the broker's says. A status that is not known is neither an end nor a refusal, and one that has
        moved nothing, or more than was asked for, is not counted.
        """
        asked = _amount(order)
        if isinstance(row, WireTokenization):
            name, status, qty = row.tokenization_request_id, row.status.lower(), row.qty
            is_done, is_dead = status == "completed", status == "rejected"
            detail = {"transaction": row.tx_hash, "fees": row.fees}
        elif isinstance(row, WireTransfer):
            name, status, qty = row.id, row.status.upper(), row.amount
            is_done, is_dead = status == "COMPLETE", status == "FAILED"
            detail = {"transaction": row.tx_hash, "fees": row.fees, "network_fee": row.network_fee}
        else:
            name, status = row.id, row.status.lower()
            qty = row.net_amount if row.qty is None else row.qty
            is_done, is_dead = status in JOURNALED, status in JOURNAL_ENDED
            detail = {}
        if is_dead:
            return Rejected(f"{name} is {status}", seen=True)
        if not is_done:
            begun = Receipt(
                ref=name, done_qty=Decimal(0), avg_price_usd=None, settled_ms=self._clock.now_ms()
            )
            return Working(f"{name} is {status[:40]}", ASK_S, begun)
        if qty is None:
            return Working(f"{name} is {status}, and how much it moved cannot be read", 60.0)
        if not 0 < abs(qty) <= asked:
            return Working(f"{name} is {status}, and moved {qty} where {asked} was asked for", 60.0)
        kept = {what: None if value is None else str(value) for what, value in detail.items()}
        return Confirmed(
            Receipt(
                ref=name, done_qty=abs(qty), avg_price_usd=None, settled_ms=self._clock.now_ms(), detail=kept
            )
        )


def _amount(order: AnyOrder) -> Decimal:
    if isinstance(order, MintOrder):
        return order.qty
    return order.usdc if isinstance(order, PayOutOrder) else order.amount


def _order(intent: IntentSpec) -> AnyOrder:
    shape = _ORDERS.get(intent.kind)
    if shape is None:
        raise Bug(f"a {intent.kind} is no move at the broker")
    try:
        found: AnyOrder = shape.validate_python(intent.order)
    except ValidationError as error:
        fields = sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]})
        raise VenueRefused("order", f"the {intent.kind} has odd fields: {', '.join(fields)}") from None
    return found
