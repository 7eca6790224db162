"""Hyperliquid as a venue that holds a leg: build, sign, send once, and find out what became of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import NOT_NOW, UNREAD, Bug, NotUnderstood, OperatorError, Retryable, VenueRefused
from evenkeel.legs import Capabilities, IntentKind, WayOut
from evenkeel.types import (
    Built,
    Confirmed,
    IntentSpec,
    Outcome,
    Receipt,
    Rejected,
    Signed,
    Unknown,
    VenueName,
)
from venues.hyperliquid import models as m
from venues.hyperliquid.account import HyperliquidAccount
from venues.hyperliquid.approval import Approved, Refused
from venues.hyperliquid.client import VENUE, HyperliquidClient
from venues.hyperliquid.lookup import OrderLookup
from venues.hyperliquid.orders import (
    OrderKey,
    PerpOrder,
    checked_size,
    cloid_of,
    leverage_action,
    limit_price,
    order_action,
)
from venues.hyperliquid.signing import HyperliquidSigner, NonceSource, is_mainnet_url
from venues.hyperliquid.validator import HyperliquidValidator, Reading, Request, Rules
from venues.perp import AgentKey

GRACE_MS = 5_000
"""What must pass on the venue's clock after an order's expiry before an unseen one counts as dead."""
_LEVERAGE_ATTEMPTS = 4
_LEVERAGE_PAUSE_S = 0.5
_DUPLICATE_NONCE = "duplicate nonce"
_DEFINITE_REFUSALS = (
    "user or api wallet",
    "must deposit before",
    "too many cumulative requests",
    "signed action over weight limit",
    "vault",
    "insufficient",
    "only post-only orders",
    "order ",
    "price must",
    "invalid leverage",
    "cannot switch leverage",
    "isolated position does not have",
)
"""Refusals of a whole action, by prefix in lower case, that prove it was not executed. In the incident of
2025-07-29 the API answered errors for orders that did execute; so a wording we do not know is Unknown, and
the order's expiry ends it."""


class HyperliquidVenue(HyperliquidAccount):
    """`venues.protocol.LegVenue`. The signer is the account's own key or an approved agent; every question to the venue
    names the account. An order dies by itself `expires_after_ms` after signing. Every action passes the validator before
    it is signed; without one given, the strictest bounds hold."""

    name = VenueName.HYPERLIQUID
    capabilities = Capabilities(can_resize=True)

    def __init__(
        self,
        client: HyperliquidClient,
        signer: HyperliquidSigner,
        account_address: str,
        clock: Clock,
        *,
        expires_after_ms: int = 10_000,
        validator: HyperliquidValidator | None = None,
    ) -> None:
        super().__init__(client, account_address, client.time)
        self._signer = signer
        self._nonces = NonceSource.shared(client.base_url, signer.address, clock)
        is_mainnet = is_mainnet_url(client.base_url)
        self._validator = validator or HyperliquidValidator(Rules(is_mainnet, self.address))
        rules = self._validator.rules
        if (rules.is_mainnet, rules.account) != (is_mainnet, self.address):
            raise Bug("the validator judges for another network or account than the venue trades on")
        self._expires_after_ms = expires_after_ms
        self._lookup = OrderLookup(client, clock, GRACE_MS)

    # --- the leg protocol ---------------------------------------------------------------------------------

    async def build(self, intent: IntentSpec) -> Built:
        """Return the order to be signed, from position, book, limit price and checks. `note` says what the price was
        judged by: the book's mid, and a price that the book alone cannot move (of the oracle; to get out, the mark that
        comes with the position).

        An order that only reduces needs no reading of the account: without one it is of the size that was asked for, which
        is then the most that it can be, and the venue cuts it down to what is held.

        Raises Retryable (venue unreachable, one side of the book empty), VenueRefused (size, minimum, nothing to reduce),
        NotUnderstood (to open), OperatorError (unknown coin).
        """
        return await self._built(_order_of(intent))

    async def can_close(self, order: dict[str, Any]) -> WayOut:
        """Say whether our key may act now, the market is listed, and the order has a size and a price that pass. A list of
        agents that cannot be read now holds up nothing.
        """
        try:
            with suppress(*NOT_NOW):
                await self.check_agent()
            await self._built(PerpOrder.model_validate(order))
        except NOT_NOW as error:
            return WayOut(provable=False, reason=str(error), answered=False)
        except (VenueRefused, OperatorError, ValidationError) as error:
            return WayOut(provable=False, reason=str(error).partition("\n")[0])
        return WayOut(provable=True)

    async def _built(self, order: PerpOrder) -> Built:
        asset = await (self.market.asset_to_close if order.reduce_only else self.market.asset)(order.coin)
        szi, mark_px, time_ms, unread = await self._held(order)
        oracle_px = None
        if order.reduce_only:
            book, fair_px = await self.market.prices_to_close_by(order.coin, mark_px)
        else:
            book, fair_px, oracle_px = await self.market.prices_to_open_by(order.coin)
        try:
            price = limit_price(order, book, asset)
        except ValueError as error:
            raise VenueRefused(VENUE, f"no valid price for {order.coin}: {error}") from error
        size = checked_size(order, price, szi, asset)
        note = {
            "account": self.address,
            "coin": order.coin,
            "asset": asset.index,
            "is_buy": order.is_buy,
            "reduce_only": order.reduce_only,
            "size": str(size),
            "asked_size": str(order.size),
            "limit_px": str(price),
            "reference_px": str(book.mid_px),
            "fair_px": str(fair_px),
            "oracle_px": None if oracle_px is None else str(oracle_px),
            "sz_decimals": asset.sz_decimals,
            "seen_ms": self.clock.now_ms(),
            "bid_px": str(book.best_bid_px),
            "ask_px": str(book.best_ask_px),
            "slippage_bps": str(order.slippage_bps),
            "szi_before": str(szi),
            "position_time_ms": time_ms,
        }
        if unread:
            note["account_unread"] = unread
        return Built(payload=order_action(asset, order, price, size, cloid=""), note=note)

    async def _held(self, order: PerpOrder) -> tuple[Decimal, Decimal | None, int, str]:
        """The account's signed position in the order's coin, its mark, the time of the reading, and why there is none of the
        first two: then an order that only reduces takes it that just so much is held. Raises UNREAD for any other.
        """
        try:
            state = await self.client.clearinghouse_state(self.address)
            held = state.position(order.coin)
        except UNREAD as why:
            if not order.reduce_only:
                raise
            return _as_asked(order), None, self.clock.now_ms(), str(why)
        time_ms = state.time or self.clock.now_ms()
        unshown = held is None or (held.szi > 0) == order.is_buy
        if unshown and order.reduce_only and order.though_unshown:
            return _as_asked(order), None, time_ms, f"the account shows no {order.coin} that it could reduce"
        return (held.szi, held.mark_px, time_ms, "") if held else (Decimal(0), None, time_ms, "")

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the signed order with a fresh nonce, a cloid that follows from it, an expiry; the key holds the exact
        bytes to be sent.
        """
        await self.clock.refresh()
        nonce = self._nonces.next(self.clock.now_ms())
        now = self.clock.now_ms()
        cloid = cloid_of(intent.intent_id, nonce)
        action = _with_cloid(built.payload, cloid)
        expires_after = now + self._expires_after_ms
        note = built.note
        verdict = self._validator.judge_order(
            action,
            nonce=nonce,
            expires_after=expires_after,
            now_ms=now,
            request=_request_of(intent),
            reading=_reading_of(note),
        )
        key = OrderKey(
            account=self.address,
            coin=note["coin"],
            cloid=cloid,
            nonce=nonce,
            expires_after=expires_after,
            payload=await self._signed_body(verdict),
            signer=self._signer.address,
            built_at_ms=now,
            is_buy=note["is_buy"],
            size=Decimal(note["size"]),
            limit_px=Decimal(note["limit_px"]),
            reference_px=Decimal(note["reference_px"]),
            szi_before=Decimal(note["szi_before"]),
            position_time_ms=note["position_time_ms"],
            oracle_px=note.get("oracle_px"),
            szi_read="account_unread" not in note,
        )
        return Signed(key=key.model_dump(mode="json"), wire=key.payload)

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """POST the signed body once."""
        key = _key_of(signed)
        answer = await self.client.exchange(key.payload)
        if isinstance(answer, Confirmed):
            return await self._judge(key, answer.value)
        return answer

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """POST the identical bytes again; the venue executes a nonce once.

        Only a fill in the answer is believed. Every refusal may be about this copy alone (the nonce is
        used, the position is already closed by the first copy, the expiry has passed), so the venue is
        asked what became of the order.
        """
        key = _key_of(signed)
        if self.clock.now_ms() <= key.expires_after:
            answer = await self.client.exchange(key.payload)
            if isinstance(answer, Unknown):
                return answer
            if isinstance(answer, Confirmed):
                judged = await self._judge(key, answer.value)
                if isinstance(judged, Confirmed):
                    return judged
        return await self._lookup.find(key)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Ask by cloid, then by fills and position; Rejected carries the proof that the order is dead."""
        return await self._lookup.find(_key_of(signed))

    # --- leverage and agent -------------------------------------------------------------------------------

    async def set_leverage(self, coin: str, leverage: int) -> None:
        """Set the leverage that later opens use; a position already held keeps its margin.

        Setting it twice is the same as once, so an answer that got lost is simply asked for again. Raises
        OperatorError (not an integer within the asset's limit), VenueRefused, Retryable.
        """
        asset = await self.market.asset(coin)
        if asset.max_leverage is None:
            raise NotUnderstood(VENUE, f"meta: maxLeverage of {coin}")
        if (
            isinstance(leverage, bool)
            or not isinstance(leverage, int)
            or not 1 <= leverage <= asset.max_leverage
        ):
            raise OperatorError(
                f"leverage of {coin} on Hyperliquid must be a whole number from 1 to {asset.max_leverage}, "
                f"got {leverage}"
            )
        action = leverage_action(asset, leverage)
        reason = ""
        for attempt in range(_LEVERAGE_ATTEMPTS):
            if attempt:
                await self.clock.sleep(_LEVERAGE_PAUSE_S * 2**attempt)
            await self.clock.refresh()
            nonce = self._nonces.next(self.clock.now_ms())
            expires_after = self.clock.now_ms() + self._expires_after_ms
            verdict = self._validator.judge_setting(
                action,
                nonce=nonce,
                expires_after=expires_after,
                now_ms=self.clock.now_ms(),
                assets={asset.index: asset.coin},
            )
            answer = await self.client.exchange(await self._signed_body(verdict))
            if isinstance(answer, Rejected):
                raise VenueRefused(VENUE, answer.reason)
            if isinstance(answer, Confirmed):
                if answer.value["status"] == "ok":
                    return
                reason = str(answer.value.get("response"))
                if is_definite(reason):
                    raise VenueRefused(VENUE, reason)
            else:
                reason = answer.reason
        raise Retryable(f"hyperliquid did not confirm leverage {leverage} of {coin}: {reason}")

    @property
    def signer_address(self) -> str:
        """Who signs: an agent of the account, or the account itself."""
        return self._signer.address

    async def check_agent(self, signer_address: str | None = None) -> None:
        """Raise OperatorError unless our signer (or the given address) may act for the account now."""
        await super().check_agent(signer_address or self._signer.address)

    async def agent_key(self, signer_address: str | None = None) -> AgentKey:
        """Return whether our signer (or the given address) is approved, and until when."""
        return await super().agent_key(signer_address or self._signer.address)

    # --- answers ------------------------------------------------------------------------------------------

    async def _signed_body(self, verdict: Approved | Refused) -> str:
        """The bytes to be sent for an approved action. Raises VenueRefused that names the rule, or Retryable where a
        fresh reading may pass. A key that lives elsewhere is asked in a thread: leases go on being renewed meanwhile.
        """
        if isinstance(verdict, Refused):
            if verdict.again:
                raise Retryable(f"not signed, {verdict}: build again")
            raise VenueRefused("the validator", str(verdict))
        if self._signer.is_remote:
            return await asyncio.to_thread(self._signer.signed_body, verdict)
        return self._signer.signed_body(verdict)

    async def _judge(self, key: OrderKey, answer: dict[str, Any]) -> Outcome[Receipt]:
        """What the answer to a first copy proves."""
        if answer["status"] == "err":
            reason = str(answer.get("response"))
            return Rejected(reason) if is_definite(reason) else Unknown(f"the venue answered: {reason}", True)
        try:
            answers = m.order_answers(answer)
        except (ValueError, ValidationError, TypeError, AttributeError):
            return Unknown("the answer to an order has no shape we know")
        if len(answers) != 1:
            return Unknown(f"{len(answers)} answers to one order")
        said = answers[0]
        if isinstance(said, m.OrderFilled):
            return await self._lookup.await_fills(key, said)
        if isinstance(said, m.OrderRefused):
            return Rejected(said.error)
        return Unknown(f"an IOC order was answered with {type(said).__name__}")


def is_definite(reason: str) -> bool:
    text = reason.lower()
    return _DUPLICATE_NONCE not in text and text.startswith(_DEFINITE_REFUSALS)


def _request_of(intent: IntentSpec) -> Request:
    order = _order_of(intent)
    return Request(IntentKind(intent.kind), order.is_buy, order.size, order.reduce_only)


def _reading_of(note: dict[str, Any]) -> Reading:
    return Reading(
        coin=note["coin"],
        asset=note["asset"],
        sz_decimals=note["sz_decimals"],
        mid_px=Decimal(note["reference_px"]),
        fair_px=Decimal(note["fair_px"]),
        szi=Decimal(note["szi_before"]),
        seen_ms=note["seen_ms"],
    )


def _as_asked(order: PerpOrder) -> Decimal:
    """The signed position that an order which only reduces takes for held: just so much."""
    return -order.size if order.is_buy else order.size


def _order_of(intent: IntentSpec) -> PerpOrder:
    try:
        return PerpOrder.model_validate(intent.order)
    except ValidationError as error:
        raise Bug(
            f"intent {intent.intent_id} holds no perpetual order: {error.errors()[0]['msg']}"
        ) from error


def _key_of(signed: Signed) -> OrderKey:
    try:
        return OrderKey.model_validate(signed.key)
    except ValidationError as error:
        raise Bug("a stored Hyperliquid attempt has an incomplete key") from error


def _with_cloid(action: dict[str, Any], cloid: str) -> dict[str, Any]:
    """The action with its cloid in place (last in the order, as the venue hashes it)."""
    return {**action, "orders": [{**order, "c": cloid} for order in action["orders"]]}
