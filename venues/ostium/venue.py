"""The adapter: a delegate's orders in a trader's name, confirmed by the keeper's settlement and not by their own receipt.

A mined order is *working* until the venue's callbacks say what became of it. A trade is named by the number of the order that
opened it; (market, index) is a place that others take later, and is compared with that number before anything is signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, NotUnderstood, OperatorError, VenueRefused
from evenkeel.types import (
    AccountCapabilities,
    Built,
    Confirmed,
    IntentSpec,
    Outcome,
    Receipt,
    Rejected,
    Unknown,
    Working,
)
from venues.batches import together
from venues.evm.answers import Mined
from venues.evm.codec import Event
from venues.evm.lanes import Lanes
from venues.evm.orders import EvmOrders
from venues.evm.pages import logs_in_parts
from venues.evm.rpc import EvmRpc
from venues.evm.sender import Chain, EvmSender, note_of
from venues.evm.validator import Validator
from venues.jsonrpc import RpcError
from venues.ostium.contracts import (
    ALLOWANCE,
    BALANCE_OF,
    CLOSE_ASKED,
    CONTRACT_ADDRESS,
    DELEGATED,
    DELEGATIONS,
    ERRORS,
    IS_DONE,
    IS_PAUSED,
    LEVERAGE_PLACES,
    NO_ORDER_WAITS,
    OPEN_ASKED,
    OPEN_TRADE_INFO,
    PAIR_LEAST_NOTIONAL,
    PAIR_MOST_LEVERAGE,
    PAIR_ORACLE_FEE,
    REGISTRY,
    STOP_SET,
    USDC_PLACES,
    WAITING_ORDER,
    OrderType,
    scaled,
)
from venues.ostium.moves import Move, moves_of
from venues.ostium.orders import (
    CancelOrder,
    CloseOrder,
    OpenOrder,
    Order,
    StopOrder,
    TimeOutOrder,
    TopUpOrder,
    order_of,
)
from venues.ostium.receipts import NAME, receipt_of
from venues.ostium.settlement import (
    TIMED_OUT_TOPICS,
    TOPICS,
    Settled,
    Settlement,
    pulled_usdc,
    settlements,
)
from venues.ostium.validator import MOST_GAS
from venues.signers.protocol import EvmSigner

MOVES: dict[type, Settled] = {
    OpenOrder: Settled.PLACED,
    CancelOrder: Settled.WITHDRAWN,
    TopUpOrder: Settled.TOPPED_UP,
}
"""Of the orders that move money in their own transaction, what they do."""
AGAIN_BLOCKS = 10_000
"""Newest blocks that are searched again for the keeper's word: a node that lags may have left it out."""
ASK_AFTER_S = 1.5
"""A keeper settles within one to two seconds."""


@dataclass(frozen=True)
class Contracts:
    """Where the venue's contracts are. `storage` holds the traders' dollars, and is whom they approve."""

    trading: str
    storage: str
    usdc: str
    callbacks: str
    pairs: str
    vault: str = ""
    """Who pays every gain."""


class Waits(NamedTuple):
    """What a limit or stop order is for. Its price and its stops can be changed where it waits, these cannot."""

    is_long: bool
    collateral_usdc: Decimal
    leverage: Decimal


async def find_contracts(rpc: EvmRpc, trading: str, storage: str, usdc: str) -> Contracts:
    """Return the contracts, the others by the venue's registry. Raises OperatorError where there is no code, UNREAD."""
    for name, address in (("trading", trading), ("storage", storage), ("usdc", usdc)):
        if not await rpc.code(address):
            raise OperatorError(
                f"ostium.{name} is {address}, where chain {await rpc.chain_id()} has no contract"
            )
    registry = REGISTRY.answer(await rpc.view(trading, REGISTRY.call()))

    async def named(name: str) -> str:
        key = name.encode().ljust(32, b"\0")
        return str(CONTRACT_ADDRESS.answer(await rpc.view(registry, CONTRACT_ADDRESS.call(key))))

    callbacks, pairs, vault = [await named(one) for one in ("callbacks", "pairsStorage", "vault")]
    return Contracts(trading, storage, usdc, callbacks, pairs, vault)


class OstiumVenue(EvmOrders):
    """One delegate's key on one chain, for every trader who named it his delegate."""

    name = NAME
    capabilities = AccountCapabilities(
        native_stops=True, opens=True, closes_partly=True, stops_for_users=False, collects=True
    )

    def __init__(
        self,
        rpc: EvmRpc,
        signer: EvmSigner,
        lanes: Lanes,
        chain: Chain,
        contracts: Contracts,
        validator: Validator,
        clock: Clock,
    ) -> None:
        self.contracts = contracts
        self._rpc = rpc
        self._sender = EvmSender(rpc, signer, lanes, chain, validator, ERRORS, clock)
        self._searched: dict[int, int] = {}
        """By order: the block from which on the keeper's word is searched for; none is in those before."""

    # --- what stands on chain ---

    async def is_paused(self) -> bool:
        """Return whether openings are stopped; closes and stops go on. Raises UNREAD."""
        return bool(IS_PAUSED.answer(await self._view(self.contracts.trading, IS_PAUSED.call())))

    async def is_done(self) -> bool:
        """Return whether the venue has ended: nothing can be done there any more. Raises UNREAD."""
        trading, callbacks = await asyncio.gather(
            self._view(self.contracts.trading, IS_DONE.call()),
            self._view(self.contracts.callbacks, IS_DONE.call()),
        )
        return bool(IS_DONE.answer(trading) or IS_DONE.answer(callbacks))

    async def delegate_of(self, trader: str) -> str:
        """Return whom a trader lets act for him; forty zeros for nobody. Raises UNREAD."""
        return str(DELEGATIONS.answer(await self._view(self.contracts.trading, DELEGATIONS.call(trader))))

    async def free_usdc(self, trader: str) -> Decimal:
        """Return the dollars that the venue can take of a trader: the less of what he holds and allows. Raises UNREAD."""
        return min(await asyncio.gather(self.holds_usdc(trader), self.allows_usdc(trader)))

    async def holds_usdc(self, owner: str) -> Decimal:
        """Return the dollars of a wallet or contract. Raises UNREAD."""
        return scaled(
            BALANCE_OF.answer(await self._view(self.contracts.usdc, BALANCE_OF.call(owner))), USDC_PLACES
        )

    async def allows_usdc(self, trader: str) -> Decimal:
        """Return the dollars that a trader lets the venue take, whether or not he holds them. Raises UNREAD."""
        call = ALLOWANCE.call(trader, self.contracts.storage)
        return scaled(ALLOWANCE.answer(await self._view(self.contracts.usdc, call)), USDC_PLACES)

    async def usdc_of(self, trader: str) -> Decimal:
        """Return the dollars that a trader's wallet holds. Raises UNREAD."""
        held = await self._view(self.contracts.usdc, BALANCE_OF.call(trader))
        return scaled(BALANCE_OF.answer(held), USDC_PLACES)

    async def trade_at(self, trader: str, pair: int, index: int) -> int:
        """Return the number of the trade at a place, 0 for none. Raises UNREAD."""
        answered = await self._view(self.contracts.storage, OPEN_TRADE_INFO.call(trader, pair, index))
        return int(OPEN_TRADE_INFO.answer(answered)[0])

    async def waiting_at(self, trader: str, pair: int, slot: int) -> Waits | None:
        """Return the limit or stop order that waits in a slot, None for none. Raises UNREAD."""
        try:
            answered = await self._view(self.contracts.storage, WAITING_ORDER.call(trader, pair, slot))
        except RpcError as error:
            if ERRORS.words(error.data).startswith(NO_ORDER_WAITS):
                return None
            raise
        found = WAITING_ORDER.answer(answered)
        if not found[5]:
            return None
        return Waits(bool(found[11]), scaled(found[0], USDC_PLACES), scaled(found[5], LEVERAGE_PLACES))

    # --- orders ---

    async def build(self, intent: IntentSpec) -> Built:
        """Return the call in the trader's name. Raises VenueRefused with the first reason why the venue would not take it."""
        with together():
            return await self._build(order_of(intent))

    async def _build(self, order: Order) -> Built:
        delegate, done = await asyncio.gather(self.delegate_of(order.trader), self.is_done())
        if done:
            raise VenueRefused(NAME, "the venue has ended (isDone): nothing can be done there")
        if delegate != self.address:
            raise VenueRefused(NAME, f"{order.trader} lets {delegate} act for him, and not {self.address}")
        await self._may(order)
        calldata = DELEGATED.call(order.trader, order.call)
        return await self._sender.build(self.contracts.trading, calldata, MOST_GAS)

    async def try_order(self, intent: IntentSpec) -> None:
        """Raise VenueRefused with the first reason why an order would not be taken or signed now. Nothing is signed."""
        self._sender.judge(await self.build(intent))

    async def _may(self, order: Order) -> None:
        if isinstance(order, OpenOrder):
            await self._may_open(order)
        elif isinstance(order, CancelOrder):
            found = await self.waiting_at(order.trader, order.pair, order.index)
            if found != Waits(order.is_long, order.collateral_usdc, order.leverage):
                now = "no order" if found is None else "another order"
                raise VenueRefused(NAME, f"{now} waits in slot {order.index} of market {order.pair}")
        elif isinstance(order, CloseOrder | StopOrder | TopUpOrder):
            there = await self.trade_at(order.trader, order.pair, order.index)
            if there != order.trade_id:
                now = f"trade {there}" if there else "no trade"
                raise VenueRefused(
                    NAME, f"market {order.pair}, place {order.index} holds {now}, not {order.trade_id}"
                )
            if isinstance(order, CloseOrder):
                fee, free = await asyncio.gather(self.oracle_fee(order.pair), self.free_usdc(order.trader))
                if free < fee:
                    raise VenueRefused(
                        NAME,
                        f"a close takes {fee} USDC from the wallet first, {free} can be taken: set the stop at the market",
                    )

    async def _may_open(self, order: OpenOrder) -> None:
        pairs = self.contracts.pairs
        paused, most, least, free, fee = await asyncio.gather(
            self.is_paused(),
            self._view(pairs, PAIR_MOST_LEVERAGE.call(order.pair)),
            self._view(pairs, PAIR_LEAST_NOTIONAL.call(order.pair)),
            self.free_usdc(order.trader),
            self.oracle_fee(order.pair),
        )
        if paused:
            raise VenueRefused(NAME, "openings are paused by the venue; closes and stops go on")
        most_leverage = scaled(PAIR_MOST_LEVERAGE.answer(most), LEVERAGE_PLACES)
        if order.leverage > most_leverage:
            raise VenueRefused(NAME, f"leverage {order.leverage} is above the market's {most_leverage}")
        least_usd = scaled(PAIR_LEAST_NOTIONAL.answer(least), USDC_PLACES)
        if (order.collateral_usdc - fee) * order.leverage < least_usd:
            notional = order.collateral_usdc * order.leverage
            raise VenueRefused(
                NAME, f"{notional} USD is below the market's least size of {least_usd} USD after fees"
            )
        if free < order.collateral_usdc:
            raise VenueRefused(
                NAME, f"{order.trader} holds and allows {free} USDC, the order takes {order.collateral_usdc}"
            )

    async def oracle_fee(self, pair: int) -> Decimal:
        """Return the dollars that a close takes of the wallet first. Raises UNREAD."""
        answered = await self._view(self.contracts.pairs, PAIR_ORACLE_FEE.call(pair))
        return scaled(PAIR_ORACLE_FEE.answer(answered), USDC_PLACES)

    async def _done(self, intent: IntentSpec, mined: Mined) -> Outcome[Receipt]:
        order = order_of(intent)
        try:
            if isinstance(order, OpenOrder) and order.type is OrderType.MARKET:
                asked = self._said(mined, OPEN_ASKED, trader=order.trader, pairIndex=order.pair)
                return await self._settled(order, mined, asked)
            if isinstance(order, CloseOrder):
                asked = self._said(mined, CLOSE_ASKED, trader=order.trader, tradeId=order.trade_id)
                return await self._settled(order, mined, asked)
            return await self._at_once(order, mined)
        except UNREAD as error:
            return Unknown(str(error), answered=not_now(error))

    async def _settled(
        self, order: OpenOrder | CloseOrder, mined: Mined, asked: dict[str, Any] | None
    ) -> Outcome[Receipt]:
        """Return what the keeper made of an order that is in a block."""
        if asked is None:
            return Unknown(
                f"{mined.hash} succeeded and does not name the order: look at it by hand", answered=True
            )
        order_id = int(asked["orderId"])
        settlement = await self.settlement_of(order_id, mined.block)
        if settlement is None:
            return Working(
                f"order {order_id} is in block {mined.block}, the keeper has not settled it", ASK_AFTER_S
            )
        if settlement.kind in (Settled.OPEN_CANCELED, Settled.CLOSE_CANCELED):
            return Rejected(f"order {order_id} was cancelled by the venue: {settlement.why}", seen=True)
        block = await self._rpc.block(settlement.block)
        if block is None or block.hash != settlement.block_hash:
            return Working(f"order {order_id}: its settlement is being reorganised", ASK_AFTER_S)
        pulled = pulled_usdc(mined.logs, self.contracts.usdc, order.trader)
        return Confirmed(receipt_of(order, settlement, mined, pulled, block.at_s * 1000))

    async def asked_as(self, order: OpenOrder | CloseOrder, hashes: Sequence[str]) -> int | None:
        """Return the number under which an order at the market was asked for by one of these transactions; None where no block
        holds it. Raises UNREAD.
        """
        event = OPEN_ASKED if isinstance(order, OpenOrder) else CLOSE_ASKED
        for one in hashes:
            mined = await self._rpc.mined(one)
            said = None if mined is None else self._said(mined, event, trader=order.trader)
            if said is not None:
                return int(said["orderId"])
        return None

    async def settlement_of(self, order_id: int, first: int) -> Settlement | None:
        """Return the keeper's word on an order asked for in block `first`, once it is final; None before. Raises UNREAD."""
        head = await self._rpc.head()
        topics: list[list[str] | None] = [[*TOPICS, *TIMED_OUT_TOPICS], [f"0x{order_id:064x}"]]
        addresses = [self.contracts.callbacks, self.contracts.trading]
        since = max(first, self._searched.get(order_id, first))
        logs = await logs_in_parts(self._rpc, since, head.number, addresses, topics)
        if not logs:
            self._searched[order_id] = head.number - AGAIN_BLOCKS
            return None
        self._searched.pop(order_id, None)
        mined = await self._rpc.mined(logs[-1].transaction)
        if mined is None or head.number - mined.block + 1 < self._sender.chain.confirmations:
            return None
        found = settlements(mined.logs, self.contracts.callbacks, self.contracts.trading, self.contracts.usdc)
        return next((one for one in found if one.order_id == order_id), None)

    async def _at_once(self, order: Order, mined: Mined) -> Outcome[Receipt]:
        """Return the outcome of an order that its own transaction does: no keeper has a say in it."""
        move: Move | None = None
        said: dict[str, Any] | None = None
        if isinstance(order, StopOrder):
            said = self._said(mined, STOP_SET, trader=order.trader, tradeId=order.trade_id)
        elif isinstance(order, TimeOutOrder):
            said = {"order_id": order.order_id}  # it reverts where there is nothing to take back
        elif (kind := MOVES.get(type(order))) is not None:
            at = self.contracts
            moves = moves_of(mined.logs, at.trading, at.storage, at.usdc, order.trader)
            move = next((one for one in moves if one.kind is kind), None)
            said = None if move is None else {"slot": move.slot}
        else:
            raise NotUnderstood(NAME, f"a {order.kind} is settled by a keeper")
        if said is None:
            return Unknown(f"{mined.hash} succeeded without saying so: look at it by hand", answered=True)
        at_ms = await self._sender.mined_ms(mined)
        if at_ms is None:
            return Unknown(f"when block {mined.block} was made cannot be read now")
        detail = note_of(mined) | {name: str(value) for name, value in said.items()}
        if move is not None:
            detail["settlement"] = move.wire(at_ms)
        return Confirmed(
            Receipt(ref=mined.hash, done_qty=Decimal(0), avg_price_usd=None, settled_ms=at_ms, detail=detail)
        )

    def _said(self, mined: Mined, event: Event, **wanted: Any) -> dict[str, Any] | None:
        """Return the fields of the trading contract's one event of this kind with these values; None where there is none."""
        for log in mined.logs:
            if log.address == self.contracts.trading and log.topics and log.topics[0] == event.topic:
                said = event.read(log)
                if all(said[name] == value for name, value in wanted.items()):
                    return said
        return None

    async def _view(self, to: str, calldata: bytes) -> bytes:
        return await self._rpc.view(to, calldata)


def not_now(error: Exception) -> bool:
    """Return whether somebody answered."""
    return isinstance(error, NotUnderstood | VenueRefused)
