"""The pull of a token: what an owner has allowed is moved from his account to one fixed wallet, once for each order.

`transferFrom` needs the owner's own approval (`approve`, or `permit`) of the key that pulls; no other moves a token of his.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

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
from venues.batches import together
from venues.evm.answers import Log, Mined
from venues.evm.codec import Errors, Event, Function
from venues.evm.fees import FeeCaps
from venues.evm.lanes import Lanes
from venues.evm.orders import EvmOrders
from venues.evm.rpc import EvmRpc
from venues.evm.sender import Chain, EvmSender
from venues.evm.validator import Allowed, Arguments, Validator
from venues.signers.protocol import EvmSigner

TRANSFER_FROM = Function("transferFrom", ("address", "address", "uint256"), ("bool",))
BALANCE_OF = Function("balanceOf", ("address",), ("uint256",))
ALLOWANCE = Function("allowance", ("address", "address"), ("uint256",))
TRANSFER = Event.of("Transfer(address indexed sender,address indexed receiver,uint256 value)")
ERRORS = Errors(
    "ERC20InsufficientBalance(address,uint256,uint256)",
    "ERC20InsufficientAllowance(address,uint256,uint256)",
    "ERC20InvalidReceiver(address)",
    "ERC20InvalidSender(address)",
)
"""ERC-6093, for tokens that do not say it in words."""
MOST_GAS = 250_000
IsOwed: TypeAlias = Callable[[str, int], bool]
"""Whether an owner owes just so many units, and has not paid them."""
ADDRESS = r"^0x[0-9a-f]{40}$"


class PullOrder(Frozen):
    """Whose tokens, and how many of the token's smallest units."""

    owner: str = Field(pattern=ADDRESS)
    units: int = Field(gt=0, lt=2**128)


_ORDER = TypeAdapter(PullOrder)


class Token(Frozen):
    """A token's contract, how many decimals its units have, the wallet that everything goes to, and the most of one pull."""

    address: str = Field(pattern=ADDRESS)
    decimals: int = Field(ge=0, le=36)
    wallet: str = Field(pattern=ADDRESS)
    most_units: int = Field(gt=0)

    def amount(self, units: int) -> Decimal:
        """Return whole tokens."""
        return Decimal(units).scaleb(-self.decimals)


class TokenPulls(EvmOrders):
    """The adapter. One order kind, `pull`; its intents' `subject` is the business's name of the charge. `is_owed` is asked
    before every signature.
    """

    def __init__(
        self,
        name: str,
        token: Token,
        rpc: EvmRpc,
        signer: EvmSigner,
        lanes: Lanes,
        chain: Chain,
        caps: FeeCaps,
        clock: Clock,
        is_owed: IsOwed,
    ) -> None:
        self.name = name
        self._is_owed = is_owed
        self.token = token
        rules = {token.address: (Allowed(TRANSFER_FROM, self._may_pull),)}
        validator = Validator(chain.chain_id, rules, MOST_GAS, caps)
        self._sender = EvmSender(rpc, signer, lanes, chain, validator, ERRORS, clock)

    async def may_take(self, owner: str) -> int:
        """Return the units that can be pulled of an owner now: the less of what he has and what he allows. Raises UNREAD."""
        held, allowed = await asyncio.gather(
            self._sender.rpc.view(self.token.address, BALANCE_OF.call(owner)), self.allows(owner)
        )
        return int(min(BALANCE_OF.answer(held), allowed))

    async def allows(self, owner: str) -> int:
        """Return the units that an owner lets this key pull, whether or not he has them. Raises UNREAD."""
        call = ALLOWANCE.call(owner, self.address)
        return int(ALLOWANCE.answer(await self._sender.rpc.view(self.token.address, call)))

    async def build(self, intent: IntentSpec) -> Built:
        """Return the call. Raises VenueRefused for an order that is none, is above the cap, or is not covered by the owner."""
        order = _order(intent)
        calldata = TRANSFER_FROM.call(order.owner, self.token.wallet, order.units)
        if (why := self._may_pull(TRANSFER_FROM.arguments(calldata))) is not None:
            raise VenueRefused(self.name, why)
        with together():
            may_take = await self.may_take(order.owner)
            if may_take < order.units:
                wanted, there = self.token.amount(order.units), self.token.amount(may_take)
                raise VenueRefused(
                    self.name, f"{order.owner} allows and holds {there}, the pull is of {wanted}"
                )
            return await self._sender.build(self.token.address, calldata, MOST_GAS)

    async def _done(self, intent: IntentSpec, mined: Mined) -> Outcome[Receipt]:
        order = _order(intent)
        if not any(self._is_pull(log, order) for log in mined.logs):
            return Unknown(
                f"{mined.hash} succeeded without the transfer that was ordered: look at it by hand",
                answered=True,
            )
        return await self._moved_at(mined, self.token.amount(order.units))

    def _is_pull(self, log: Log, order: PullOrder) -> bool:
        if log.address != self.token.address:
            return False
        try:
            said = TRANSFER.read(log)
        except NotUnderstood:
            return False
        return said == {"sender": order.owner, "receiver": self.token.wallet, "value": order.units}

    def _may_pull(self, arguments: Arguments) -> str | None:
        owner, to, units = arguments
        if to != self.token.wallet:
            return f"it pays {to}, allowed is {self.token.wallet}"
        if owner in (self.token.wallet, self.token.address):
            return f"it takes from {owner}, which is nobody's own account"
        if not 0 < units <= self.token.most_units:
            return f"it takes {self.token.amount(units)}, allowed is at most {self.token.amount(self.token.most_units)}"
        if not self._is_owed(owner, units):
            return f"{owner} owes no charge of {self.token.amount(units)}"
        return None


def _order(intent: IntentSpec) -> PullOrder:
    if intent.kind != "pull":
        raise Bug(f"a {intent.kind} is no order of a token")
    try:
        return _ORDER.validate_python(intent.order)
    except ValidationError as error:
        fields = sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]})
        raise VenueRefused("order", f"the pull has odd fields: {', '.join(fields)}") from None
