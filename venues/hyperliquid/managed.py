"""Users' accounts on Hyperliquid, each signed for by its own approved agent: stops that stand there, and ways out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, Bug, Retryable, VenueRefused
from evenkeel.types import (
    AccountCapabilities,
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
from venues.hyperliquid.approval import Refused
from venues.hyperliquid.client import VENUE, HyperliquidClient
from venues.hyperliquid.market import MarketData
from venues.hyperliquid.orders import PerpOrder, cloid_of
from venues.hyperliquid.rounding import round_size
from venues.hyperliquid.signing import HyperliquidSigner, NonceSource, is_mainnet_url, normal_address
from venues.hyperliquid.triggers import (
    StopKey,
    StopOrder,
    StopReading,
    StopValidator,
    stop_action,
    with_cloid,
    worst_price,
)
from venues.hyperliquid.validator import Rules
from venues.hyperliquid.venue import GRACE_MS, HyperliquidVenue, is_definite
from venues.signers.derived import DerivedEvmKeys

STOP, CLOSE = "stop", "close"


class HyperliquidAgents:
    """`venues.account_venue.AccountVenue`. Every intent names its account, and is signed by the key that is made for that
    account alone. An order dies by itself `expires_after_ms` after signing, and passes the validator before.
    """

    name = VenueName.HYPERLIQUID.value
    capabilities = AccountCapabilities(
        native_stops=True, opens=False, closes_partly=True, stops_for_users=True, collects=False
    )

    def __init__(
        self,
        client: HyperliquidClient,
        keys: DerivedEvmKeys,
        clock: Clock,
        *,
        exit_slippage_bps: int = 1_000,
        expires_after_ms: int = 10_000,
    ) -> None:
        self.client = client
        self.clock = client.time
        self.market = MarketData(client, clock)
        self.is_mainnet = is_mainnet_url(client.base_url)
        self._keys = keys
        self._clock = clock
        self._exit_slippage_bps = exit_slippage_bps
        self._expires_after_ms = expires_after_ms
        self._signers: dict[tuple[str, int], HyperliquidSigner] = {}

    @property
    def chain(self) -> str:
        """The name under which the ledger keeps what happens there."""
        return "hyperliquid" if self.is_mainnet else "hyperliquid-testnet"

    def agent_of(self, account: str, generation: int) -> str:
        """The address that a user approves as his agent."""
        return self._signer(account, generation).address

    # --- the protocol ---

    async def build(self, intent: IntentSpec) -> Built:
        """Return the order to be signed, from the position and prices of now. Raises UNREAD; VenueRefused where there is
        nothing to reduce, or the market has passed the stop already.
        """
        if intent.kind == STOP:
            return await self._build_stop(_stop_of(intent))
        venue, spec = self._closing(intent)
        return await venue.build(spec)

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the signed order with a fresh nonce, a client order id that follows from it, and an expiry."""
        if intent.kind == STOP:
            return await self._sign_stop(intent, _stop_of(intent), built)
        venue, spec = self._closing(intent)
        return await venue.sign(spec, built)

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """POST the signed body once."""
        if intent.kind != STOP:
            venue, spec = self._closing(intent)
            return await venue.send(spec, signed)
        key = _key_of(signed)
        answer = await self.client.exchange(key.payload)
        return self._judge(key, answer.value) if isinstance(answer, Confirmed) else answer

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """POST the identical bytes again, while they can be taken; only a stop that rests is believed, the rest is asked."""
        if intent.kind != STOP:
            venue, spec = self._closing(intent)
            return await venue.resend(spec, signed)
        key = _key_of(signed)
        if self.clock.now_ms() <= key.expires_after:
            answer = await self.client.exchange(key.payload)
            if isinstance(answer, Unknown):
                return answer
            if isinstance(answer, Confirmed) and isinstance(
                judged := self._judge(key, answer.value), Confirmed
            ):
                return judged
        return await self._find_stop(key)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Ask by the client order id; Rejected carries the proof that the order is dead."""
        if intent.kind != STOP:
            venue, spec = self._closing(intent)
            return await venue.find(spec, signed)
        return await self._find_stop(_key_of(signed))

    # --- stops ---

    async def _build_stop(self, order: StopOrder) -> Built:
        asset = await self.market.asset_to_close(order.coin)
        state = await self.client.clearinghouse_state(order.account)
        held = state.position(order.coin)
        seen_ms = self.clock.now_ms()
        if held is None or (held.szi > 0) == order.is_buy:
            szi = Decimal(0) if held is None else held.szi
            raise VenueRefused(
                VENUE, f"no position of {order.account} in {order.coin} on that side ({szi}): no stop for it"
            )
        mark_px = held.mark_px or (await self.market.context(order.coin)).mark_px
        if order.stop <= mark_px if order.is_buy else order.stop >= mark_px:
            raise VenueRefused(VENUE, f"the stop {order.stop} is passed already: the mark is {mark_px}")
        size = round_size(min(order.size, abs(held.szi)), asset.sz_decimals)
        limit = worst_price(order.stop, order.slippage, is_buy=order.is_buy, sz_decimals=asset.sz_decimals)
        note = {
            "asset": asset.index,
            "sz_decimals": asset.sz_decimals,
            "mark_px": str(mark_px),
            "szi": str(held.szi),
            "size": str(size),
            "seen_ms": seen_ms,
        }
        return Built(payload=stop_action(asset, order, size, limit, cloid=""), note=note)

    async def _sign_stop(self, intent: IntentSpec, order: StopOrder, built: Built) -> Signed:
        await self.clock.refresh()
        signer = self._signer(order.account, order.generation)
        nonce = NonceSource.shared(self.client.base_url, signer.address, self._clock).next(
            self.clock.now_ms()
        )
        now = self.clock.now_ms()
        cloid = cloid_of(intent.intent_id, nonce)
        note, expires_after = built.note, now + self._expires_after_ms
        verdict = self._validator(order.account, order.coin).judge_stop(
            with_cloid(built.payload, cloid),
            nonce=nonce,
            expires_after=expires_after,
            now_ms=now,
            order=order,
            reading=StopReading(
                coin=order.coin,
                asset=note["asset"],
                sz_decimals=note["sz_decimals"],
                mark_px=Decimal(note["mark_px"]),
                szi=Decimal(note["szi"]),
                seen_ms=note["seen_ms"],
            ),
        )
        if isinstance(verdict, Refused):
            if verdict.again:
                raise Retryable(f"not signed, {verdict}: build again")
            raise VenueRefused("the validator", str(verdict))
        key = StopKey(
            account=order.account,
            coin=order.coin,
            cloid=cloid,
            nonce=nonce,
            expires_after=expires_after,
            payload=signer.signed_body(verdict),
            signer=signer.address,
            built_at_ms=now,
            stop=order.stop,
            size=Decimal(note["size"]),
            replaces=order.replaces,
        )
        return Signed(key=key.model_dump(mode="json"), wire=key.payload)

    def _judge(self, key: StopKey, answer: Mapping[str, Any]) -> Outcome[Receipt]:
        """What the answer to a first copy proves."""
        if answer["status"] == "err":
            reason = str(answer.get("response"))
            return Rejected(reason) if is_definite(reason) else Unknown(f"the venue answered: {reason}", True)
        try:
            answers = m.order_answers(dict(answer))
        except (ValueError, ValidationError, TypeError, AttributeError):
            return Unknown("the answer to a stop has no shape we know")
        if len(answers) != 1:
            return Unknown(f"{len(answers)} answers to one stop")
        said = answers[0]
        if isinstance(said, m.OrderResting):
            return Confirmed(_receipt(key, said.oid, self.clock.now_ms()))
        if isinstance(said, m.OrderRefused):
            return Rejected(said.error)
        return Unknown(f"a stop was answered with {type(said).__name__}", True)

    async def _find_stop(self, key: StopKey) -> Outcome[Receipt]:
        """By the order's record, and after its expiry by the list of what rests. A record may be gone after some 2,000 orders
        of the account: one that does not rest then can do nothing any more.
        """
        try:
            if (found := await self._recorded(key)) is not None:
                return found
            if not await self._expired(key):
                return Unknown(
                    f"stop {key.cloid} is unknown to the venue, and may be placed until {key.expires_after}"
                )
            # Only what is read from here on counts: before the expiry the order could still have arrived.
            if (found := await self._recorded(key)) is not None:
                return found
            resting = await self.client.frontend_open_orders(key.account)
        except UNREAD as fault:
            return Unknown(f"stop {key.cloid} cannot be asked about: {fault}")
        mine = next((one for one in resting if (one.cloid or "").lower() == key.cloid), None)
        if mine is not None:
            return Confirmed(_receipt(key, mine.oid, self.clock.now_ms()))
        return Rejected(
            f"expired unseen at {key.expires_after}: no record, and not among the {len(resting)} orders that rest"
        )

    async def _recorded(self, key: StopKey) -> Outcome[Receipt] | None:
        record = (await self.client.order_status(key.account, key.cloid)).order
        if record is None:
            return None
        if "reject" in record.status.lower():
            return Rejected(f"{record.status} (oid {record.order.oid})", seen=True)
        # Open, fired, or cancelled since: it was placed.
        return Confirmed(_receipt(key, record.order.oid, record.status_timestamp))

    async def _expired(self, key: StopKey) -> bool:
        state = await self.client.clearinghouse_state(key.account)
        return (state.time or self._clock.now_ms()) > key.expires_after + GRACE_MS

    # --- ways out, by the venue that trades for one account ---

    def _closing(self, intent: IntentSpec) -> tuple[HyperliquidVenue, IntentSpec]:
        if intent.kind != CLOSE:
            raise Bug(
                f"intent {intent.intent_id} is {intent.kind!r}: an agent closes and sets stops, and nothing else"
            )
        order = dict(intent.order)
        account, generation = str(order.pop("account")), int(order.pop("generation"))
        if order.get("reduce_only") is not True:
            raise Bug(f"intent {intent.intent_id} closes and is not reduce-only")
        coin = str(order["coin"])
        venue = HyperliquidVenue(
            self.client,
            self._signer(account, generation),
            account,
            self._clock,
            expires_after_ms=self._expires_after_ms,
            validator=self._validator(account, coin),
        )
        venue.market = self.market
        PerpOrder.model_validate(order)
        return venue, intent.model_copy(update={"order": order})

    def _validator(self, account: str, coin: str) -> StopValidator:
        rules = Rules(
            is_mainnet=self.is_mainnet,
            account=normal_address(account),
            coins=frozenset({coin}),
            max_order_usd=Decimal(0),
            max_short_usd=Decimal(0),
            exit_slippage_bps=Decimal(self._exit_slippage_bps),
        )
        return StopValidator(rules)

    def _signer(self, account: str, generation: int) -> HyperliquidSigner:
        """The agent's key of one account: made of the secret and never stored."""
        at = (normal_address(account), generation)
        if at not in self._signers:
            self._signers[at] = HyperliquidSigner(self._keys.key_of(f"hyperliquid/{at[0]}/{generation}"))
        return self._signers[at]


def _receipt(key: StopKey, oid: int, at_ms: int) -> Receipt:
    detail = {"cloid": key.cloid, "oid": oid, "stop": str(key.stop), "size": str(key.size)}
    return Receipt(ref=str(oid), done_qty=Decimal(0), avg_price_usd=None, settled_ms=at_ms, detail=detail)


def _stop_of(intent: IntentSpec) -> StopOrder:
    try:
        return StopOrder.model_validate(intent.order)
    except ValidationError as error:
        raise Bug(f"intent {intent.intent_id} holds no stop: {error.errors()[0]['msg']}") from error


def _key_of(signed: Signed) -> StopKey:
    try:
        return StopKey.model_validate(signed.key)
    except ValidationError as error:
        raise Bug("a stored stop has an incomplete key") from error
