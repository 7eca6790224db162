"""Tokens of one key: wrapped and unwrapped (ERC-4626), and sent to the one address that takes them back.

Amounts are a token's smallest units. What a call did is what the contract's log says: a wrapper rounds down, and its worth
changes with dividends and splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import Bug, NotUnderstood, VenueRefused
from evenkeel.types import (
    Built,
    Frozen,
    IntentSpec,
    Outcome,
    Receipt,
    Unknown,
)
from venues.evm.answers import Log, Mined
from venues.evm.codec import Errors, Event, Function
from venues.evm.fees import FeeCaps
from venues.evm.lanes import Lanes
from venues.evm.orders import EvmOrders
from venues.evm.pulls import ADDRESS, ALLOWANCE, BALANCE_OF, TRANSFER
from venues.evm.rpc import EvmRpc
from venues.evm.sender import Chain, EvmSender
from venues.evm.validator import Allowed, Arguments, Validator
from venues.signers.protocol import EvmSigner

APPROVE = Function("approve", ("address", "uint256"), ("bool",))
SEND_CALL = Function("transfer", ("address", "uint256"), ("bool",))
WRAP_CALL = Function("deposit", ("uint256", "address"), ("uint256",))
UNWRAP_CALL = Function("redeem", ("uint256", "address", "address"), ("uint256",))
SHARES_FOR = Function("previewDeposit", ("uint256",), ("uint256",))
ASSETS_FOR = Function("previewRedeem", ("uint256",), ("uint256",))
WRAPPED = Event.of("Deposit(address indexed sender,address indexed owner,uint256 assets,uint256 shares)")
UNWRAPPED = Event.of(
    "Withdraw(address indexed sender,address indexed receiver,address indexed owner,uint256 assets,uint256 shares)"
)
APPROVE_KIND, WRAP, UNWRAP, SEND = "approve", "wrap", "unwrap", "send"
ERRORS = Errors(
    "ERC20InsufficientBalance(address,uint256,uint256)",
    "ERC20InsufficientAllowance(address,uint256,uint256)",
    "ERC4626ExceededMaxDeposit(address,uint256,uint256)",
    "ERC4626ExceededMaxRedeem(address,uint256,uint256)",
)
MOST_GAS = 1_000_000


class TokenOrder(Frozen):
    """Which token, and how many units: of the asset that is wrapped or allowed, of the wrapper's own that are unwrapped, of the
    token that is sent. `token` is the wrapper, and of what is sent the token itself.
    """

    token: str = Field(pattern=ADDRESS)
    units: int = Field(ge=0, lt=2**128)


_ORDER = TypeAdapter(TokenOrder)


class MovedToken(Frozen):
    """A token that may be sent, or a wrapper with its `asset`. `most_units` of one move; wrapper and asset count alike."""

    decimals: int = Field(ge=0, le=36)
    most_units: int = Field(gt=0, lt=2**128)
    asset: str | None = None

    def amount(self, units: int) -> Decimal:
        """Return whole tokens, to the last digit."""
        return Decimal((0, tuple(map(int, str(units))), -self.decimals))


class TokenMoves(EvmOrders):
    """The adapter. Order kinds `approve`, `wrap`, `unwrap` and `send`; `tokens` by address, in lower case: wrappers, and
    what is sent to `taker`.
    """

    def __init__(
        self,
        name: str,
        tokens: Mapping[str, MovedToken],
        taker: str,
        rpc: EvmRpc,
        signer: EvmSigner,
        lanes: Lanes,
        chain: Chain,
        caps: FeeCaps,
        clock: Clock,
    ) -> None:
        self.name = name
        self.tokens = tokens
        self.taker = taker
        calls: dict[str, tuple[Allowed, ...]] = {}
        for address, token in tokens.items():
            if token.asset is None:
                calls[address] = (*calls.get(address, ()), Allowed(SEND_CALL, partial(self._may_send, token)))
                continue
            calls[address] = (
                Allowed(WRAP_CALL, partial(self._may_wrap, token)),
                Allowed(UNWRAP_CALL, partial(self._may_unwrap, token)),
            )
            allowing = Allowed(APPROVE, partial(self._may_approve, address, token))
            calls[token.asset] = (*calls.get(token.asset, ()), allowing)
        validator = Validator(chain.chain_id, calls, MOST_GAS, caps)
        self._sender = EvmSender(rpc, signer, lanes, chain, validator, ERRORS, clock)

    async def held(self, token: str) -> int:
        """Return the units of a token in our wallet. Raises UNREAD."""
        found: int = BALANCE_OF.answer(await self._sender.rpc.view(token, BALANCE_OF.call(self.address)))
        return found

    async def allowed(self, wrapper: str) -> int:
        """Return the units of its asset that a wrapper may take of our wallet. Raises UNREAD."""
        asset = self.tokens[wrapper].asset
        call = ALLOWANCE.call(self.address, wrapper)
        found: int = ALLOWANCE.answer(await self._sender.rpc.view(str(asset), call))
        return found

    async def build(self, intent: IntentSpec) -> Built:
        """Return the call. Raises UNREAD; VenueRefused for an order that is none, is above the cap, is not covered, or would
        give nothing for what it takes.
        """
        order = _order(intent)
        token = self._token(intent.kind, order)
        if intent.kind == APPROVE_KIND:
            to, call = str(token.asset), APPROVE.call(order.token, order.units)
        elif intent.kind == WRAP:
            to, call = order.token, WRAP_CALL.call(order.units, self.address)
        elif intent.kind == UNWRAP:
            to, call = order.token, UNWRAP_CALL.call(order.units, self.address, self.address)
        else:
            to, call = order.token, SEND_CALL.call(self.taker, order.units)
        if (why := await self._uncovered(intent.kind, order, token)) is not None:
            raise VenueRefused(self.name, why)
        return await self._sender.build(to, call, MOST_GAS)

    def _token(self, kind: str, order: TokenOrder) -> MovedToken:
        token = self.tokens.get(order.token)
        if token is None or (token.asset is None) != (kind == SEND):
            what = "a token that is sent" if kind == SEND else "a wrapper"
            raise VenueRefused(self.name, f"{order.token} is not {what} of the settings")
        if order.units > token.most_units or (not order.units and kind != APPROVE_KIND):
            raise VenueRefused(
                self.name,
                f"{token.amount(order.units)} to {kind}, allowed is more than 0 and at most {token.amount(token.most_units)}",
            )
        return token

    async def _uncovered(self, kind: str, order: TokenOrder, token: MovedToken) -> str | None:
        """Return what a move lacks, by the chain as it is now."""
        if kind == APPROVE_KIND:
            return None
        moved = str(token.asset) if kind == WRAP else order.token
        held = await self.held(moved)
        if held < order.units:
            return f"{self.address} holds {token.amount(held)} of {moved}, the {kind} is of {token.amount(order.units)}"
        if kind == SEND:
            return None
        if kind == WRAP and (allowed := await self.allowed(order.token)) < order.units:
            return (
                f"{self.address} allows {token.amount(allowed)}, the wrap is of {token.amount(order.units)}"
            )
        preview = SHARES_FOR if kind == WRAP else ASSETS_FOR
        given = preview.answer(await self._sender.rpc.view(order.token, preview.call(order.units)))
        return None if given else f"the wrapper would give nothing for {token.amount(order.units)}"

    async def _done(self, intent: IntentSpec, mined: Mined) -> Outcome[Receipt]:
        order = _order(intent)
        units = order.units if intent.kind == APPROVE_KIND else self._moved(intent.kind, order, mined)
        if units is None:
            why = f"{mined.hash} succeeded without the {intent.kind} that was ordered: look at it by hand"
            return Unknown(why, answered=True)
        return await self._moved_at(mined, self.tokens[order.token].amount(units), units=str(units))

    def _moved(self, kind: str, order: TokenOrder, mined: Mined) -> int | None:
        """Return the units that the contract's own log names as given; None where it has none of this move."""
        us = self.address
        event, wanted, gives = {
            WRAP: (WRAPPED, {"sender": us, "owner": us, "assets": order.units}, "shares"),
            UNWRAP: (
                UNWRAPPED,
                {"sender": us, "receiver": us, "owner": us, "shares": order.units},
                "assets",
            ),
            SEND: (TRANSFER, {"sender": us, "receiver": self.taker, "value": order.units}, "value"),
        }[kind]
        for log in mined.logs:
            said = _said(event, log) if log.address == order.token else None
            if said is not None and all(said[name] == value for name, value in wanted.items()):
                return int(said[gives])
        return None

    async def arrived(self, token: str, transaction: str) -> int | None:
        """Return the units of a token that a transaction brought into our wallet; None before its block is final, and for one
        that was reverted. Raises UNREAD.
        """
        rpc, chain = self._sender.rpc, self._sender.chain
        mined = await rpc.mined(transaction)
        if mined is None or not mined.succeeded:
            return None
        head = await rpc.head()
        block = await rpc.block(mined.block)
        is_deep = head.number - mined.block + 1 >= chain.confirmations
        if not is_deep or block is None or block.hash != mined.block_hash:
            return None
        found = (_said(TRANSFER, log) for log in mined.logs if log.address == token)
        return sum(said["value"] for said in found if said is not None and said["receiver"] == self.address)

    def _is_bounded(self, token: MovedToken, units: int, *, least: int = 1) -> str | None:
        if least <= units <= token.most_units:
            return None
        return f"it moves {token.amount(units)}, allowed is at most {token.amount(token.most_units)}"

    def _may_wrap(self, token: MovedToken, arguments: Arguments) -> str | None:
        units, receiver = arguments
        if receiver != self.address:
            return f"it gives {receiver} what it makes, allowed is {self.address}"
        return self._is_bounded(token, units)

    def _may_unwrap(self, token: MovedToken, arguments: Arguments) -> str | None:
        units, receiver, owner = arguments
        if {receiver, owner} != {self.address}:
            return f"it takes from {owner} and gives {receiver}, allowed is {self.address}"
        return self._is_bounded(token, units)

    def _may_send(self, token: MovedToken, arguments: Arguments) -> str | None:
        receiver, units = arguments
        if receiver != self.taker:
            return f"it pays {receiver}, allowed is {self.taker}"
        return self._is_bounded(token, units)

    def _may_approve(self, wrapper: str, token: MovedToken, arguments: Arguments) -> str | None:
        spender, units = arguments
        if spender != wrapper:
            return f"it lets {spender} take tokens, allowed is {wrapper}"
        return self._is_bounded(token, units, least=0)


def _said(event: Event, log: Log) -> dict[str, Any] | None:
    try:
        return event.read(log)
    except NotUnderstood:
        return None


def _order(intent: IntentSpec) -> TokenOrder:
    if intent.kind not in (APPROVE_KIND, WRAP, UNWRAP, SEND):
        raise Bug(f"a {intent.kind} is no order of a token")
    try:
        return _ORDER.validate_python(intent.order)
    except ValidationError as error:
        fields = sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]})
        raise VenueRefused("order", f"the {intent.kind} has odd fields: {', '.join(fields)}") from None
