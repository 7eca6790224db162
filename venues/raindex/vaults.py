"""Moves between our wallet and our vaults in the order book: deposits, withdrawals, and the approval that deposits need.

Amounts are a token's smallest units. What a move did is what the contract's log says: a withdrawal gives what is there, which
may be less than was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import partial

from pydantic import Field, TypeAdapter, ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import Bug, NotUnderstood, VenueRefused
from evenkeel.types import (
    Built,
    Frozen,
    IntentSpec,
    Outcome,
    Receipt,
    Rejected,
    Unknown,
)
from venues.evm.answers import Log, Mined
from venues.evm.codec import Errors, Function
from venues.evm.fees import FeeCaps
from venues.evm.lanes import Lanes
from venues.evm.orders import EvmOrders
from venues.evm.pulls import ADDRESS, ALLOWANCE, BALANCE_OF
from venues.evm.rpc import EvmRpc
from venues.evm.sender import Chain, EvmSender
from venues.evm.validator import Allowed, Arguments, Validator
from venues.raindex.events import DEPOSIT, WITHDRAW, Deposit, Withdraw, decode
from venues.raindex.floats import OutOfBounds, decoded, encoded
from venues.raindex.reader import BALANCE
from venues.signers.protocol import EvmSigner

TASKS = "((address,address,bytes),(address,bytes32[],bytes)[])[]"
"""What may be run after a move. We never name any."""
DEPOSIT_CALL = Function("deposit4", ("address", "bytes32", "bytes32", TASKS))
WITHDRAW_CALL = Function("withdraw4", ("address", "bytes32", "bytes32", TASKS))
APPROVE = Function("approve", ("address", "uint256"), ("bool",))
DEPOSIT_KIND, WITHDRAW_KIND, APPROVE_KIND = "deposit", "withdraw", "approve"
ERRORS = Errors(
    "ERC20InsufficientBalance(address,uint256,uint256)",
    "ERC20InsufficientAllowance(address,uint256,uint256)",
    "SafeERC20FailedOperation(address)",
)
MOST_GAS = 1_000_000


class VaultOrder(Frozen):
    """Which token, and how many of its smallest units; 0 takes an approval back."""

    token: str = Field(pattern=ADDRESS)
    units: int = Field(ge=0, lt=2**128)


_ORDER = TypeAdapter(VaultOrder)


class Vault(Frozen):
    """Our vault of a token: its number, the token's decimals, and the most units of one move."""

    vault_id: int = Field(gt=0, lt=2**256)
    decimals: int = Field(ge=0, le=36)
    most_units: int = Field(gt=0, lt=2**128)

    def amount(self, units: int) -> Decimal:
        """Return whole tokens, to the last digit."""
        return Decimal((0, tuple(map(int, str(units))), -self.decimals))

    @property
    def key(self) -> bytes:
        """The vault as the contract is called with it."""
        return self.vault_id.to_bytes(32, "big")


class VaultMoves(EvmOrders):
    """The adapter. Order kinds `deposit`, `withdraw` and `approve`; `vaults` by token, whose addresses are in lower case."""

    def __init__(
        self,
        name: str,
        orderbook: str,
        vaults: Mapping[str, Vault],
        rpc: EvmRpc,
        signer: EvmSigner,
        lanes: Lanes,
        chain: Chain,
        caps: FeeCaps,
        clock: Clock,
    ) -> None:
        self.name = name
        self.orderbook = orderbook
        self.vaults = vaults
        moves = (Allowed(DEPOSIT_CALL, self._may_move), Allowed(WITHDRAW_CALL, self._may_move))
        approvals = {
            token: (Allowed(APPROVE, partial(self._may_approve, vault)),) for token, vault in vaults.items()
        }
        validator = Validator(chain.chain_id, approvals | {orderbook: moves}, MOST_GAS, caps)
        self._sender = EvmSender(rpc, signer, lanes, chain, validator, ERRORS, clock)

    async def held(self, token: str) -> int:
        """Return the units of a token in our wallet. Raises UNREAD."""
        found: int = BALANCE_OF.answer(await self._sender.rpc.view(token, BALANCE_OF.call(self.address)))
        return found

    async def allowed(self, token: str) -> int:
        """Return the units that the order book may take of our wallet. Raises UNREAD."""
        call = ALLOWANCE.call(self.address, self.orderbook)
        found: int = ALLOWANCE.answer(await self._sender.rpc.view(token, call))
        return found

    async def build(self, intent: IntentSpec) -> Built:
        """Return the call. Raises UNREAD; VenueRefused for an order that is none, is above the cap, or is not covered."""
        order = _order(intent)
        vault = self.vaults.get(order.token)
        if vault is None:
            raise VenueRefused(self.name, f"no vault of {order.token} is among the settings")
        if intent.kind == APPROVE_KIND:
            to, calldata = order.token, APPROVE.call(self.orderbook, order.units)
            why = self._may_approve(vault, APPROVE.arguments(calldata))
        else:
            function = DEPOSIT_CALL if intent.kind == DEPOSIT_KIND else WITHDRAW_CALL
            to = self.orderbook
            calldata = function.call(order.token, vault.key, encoded(vault.amount(order.units)), [])
            why = self._may_move(function.arguments(calldata)) or await self._uncovered(
                intent.kind, order, vault
            )
        if why is not None:
            raise VenueRefused(self.name, why)
        return await self._sender.build(to, calldata, MOST_GAS)

    async def _uncovered(self, kind: str, order: VaultOrder, vault: Vault) -> str | None:
        """Return what a move lacks, by the chain as it is now."""
        wanted = vault.amount(order.units)
        if kind == DEPOSIT_KIND:
            held, allowed = await self.held(order.token), await self.allowed(order.token)
            if min(held, allowed) >= order.units:
                return None
            return f"{self.address} holds {vault.amount(held)} and allows {vault.amount(allowed)}, the deposit is of {wanted}"
        call = BALANCE.call(self.address, order.token, vault.key)
        try:
            there = decoded(BALANCE.answer(await self._sender.rpc.view(self.orderbook, call)))
        except OutOfBounds as odd:
            raise NotUnderstood(self.name, f"vault {vault.vault_id:#x} of {order.token}: {odd}") from None
        return None if there >= wanted else f"the vault holds {there}, the withdrawal is of {wanted}"

    async def _done(self, intent: IntentSpec, mined: Mined) -> Outcome[Receipt]:
        order = _order(intent)
        units = order.units if intent.kind == APPROVE_KIND else self._moved(intent.kind, order, mined)
        if units is None and intent.kind == WITHDRAW_KIND:
            return Rejected(f"{mined.hash} withdrew nothing: the vault was empty", seen=True)
        if units is None:
            why = f"{mined.hash} succeeded without the deposit that was ordered: look at it by hand"
            return Unknown(why, answered=True)
        return await self._moved_at(mined, self.vaults[order.token].amount(units), units=str(units))

    def _moved(self, kind: str, order: VaultOrder, mined: Mined) -> int | None:
        """Return the units that the contract's own log names; None where it has none of this move."""
        wanted: type[Deposit | Withdraw] = Deposit if kind == DEPOSIT_KIND else Withdraw
        for log in mined.logs:
            said = self._said(log)
            if isinstance(said, wanted) and (said.sender, said.token, said.vault) == (
                self.address,
                order.token,
                self.vaults[order.token].key,
            ):
                return said.units
        return None

    def _said(self, log: Log) -> object:
        if log.address != self.orderbook or log.topics[:1] not in ((DEPOSIT.topic,), (WITHDRAW.topic,)):
            return None
        try:
            return decode(log)
        except NotUnderstood:
            return None

    def _may_move(self, arguments: Arguments) -> str | None:
        token, vault_id, packed, tasks = arguments
        vault = self.vaults.get(token)
        if vault is None or vault_id != vault.key:
            return f"it moves {token} of vault 0x{vault_id.hex()}, which is none of ours"
        if tasks:
            return "it names something to be run after the move"
        try:
            amount = decoded(packed)
        except OutOfBounds as why:
            return f"its amount is out of bounds: {why}"
        if not 0 < amount <= vault.amount(vault.most_units):
            return f"it moves {amount}, allowed is at most {vault.amount(vault.most_units)}"
        return None

    def _may_approve(self, vault: Vault, arguments: Arguments) -> str | None:
        spender, units = arguments
        if spender != self.orderbook:
            return f"it lets {spender} take tokens, allowed is {self.orderbook}"
        if not 0 <= units <= vault.most_units:
            return f"it allows {vault.amount(units)}, allowed is at most {vault.amount(vault.most_units)}"
        return None


def _order(intent: IntentSpec) -> VaultOrder:
    if intent.kind not in (DEPOSIT_KIND, WITHDRAW_KIND, APPROVE_KIND):
        raise Bug(f"a {intent.kind} is no order of a vault")
    try:
        found = _ORDER.validate_python(intent.order)
        fields = [] if found.units or intent.kind == APPROVE_KIND else ["units"]
    except ValidationError as error:
        fields = sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]})
    if fields:
        raise VenueRefused("order", f"the {intent.kind} has odd fields: {', '.join(fields)}")
    return found
