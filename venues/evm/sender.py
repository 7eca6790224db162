"""A transaction, sent exactly once: signed at the lane's next number, asked about by hash, dead only by proof of the chain.

One number of a sender is used up by one transaction at most. So the same bytes may go out again, and a dearer copy at the same
number may go out beside them; that an attempt is dead is proved by a receipt that says so, or by a final transaction of that
number which is none of ours.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, Bug, OperatorError, VenueRefused
from evenkeel.types import Answer, Built, Confirmed, Frozen, Lane, Rejected, Signed, Unknown
from venues.evm.answers import Mined
from venues.evm.codec import Errors
from venues.evm.fees import Fee, dearer_fee, fee_for
from venues.evm.lanes import Lanes, lane_of
from venues.evm.rpc import EvmNodes, EvmRpc
from venues.evm.transactions import Envelope, envelope_of, hash_of
from venues.evm.validator import Validator
from venues.jsonrpc import RpcError
from venues.signers.protocol import EvmSigner

GAS_TENTHS = 13
"""Units of gas that are offered, in tenths of what the call would use now."""
POLL_S = 0.25
STUCK_AFTER_MS = 6_000
"""A transaction that the blocks of so long have passed over is offered for more: whatever its key sent later waits behind it. A
chain that makes no blocks passes over nobody.
"""
MOST_COPIES = 12
"""Dearer copies of one transaction."""


class Copy(Frozen):
    """Bytes that were signed at the attempt's number, their hash, and when."""

    hash: str
    raw: str
    at_ms: int


class Key(Frozen):
    """What an attempt is asked by: all that was signed at one number of one sender."""

    chain_id: int
    sender: str
    nonce: int
    copies: list[Copy]

    @property
    def newest(self) -> Copy:
        return self.copies[-1]

    def signed(self) -> Signed:
        """The attempt as the core keeps it."""
        return Signed(
            self.model_dump(mode="json"),
            bytes.fromhex(self.newest.raw),
            Lane(lane_of(self.chain_id, self.sender), self.nonce),
        )


_KEY = TypeAdapter(Key)


@dataclass(frozen=True)
class ContractCall:
    """A call of a contract, judged and not signed. `gas` is the most that it may use."""

    to: str
    calldata: bytes
    gas: int
    next_nonce: int
    fee: Fee


@dataclass(frozen=True)
class Chain:
    """The chain that is meant, and from when on its word is final: so many blocks on top of the one that says it."""

    chain_id: int
    confirmations: int
    wait_s: float = 10.0
    """How long a send waits for its block."""


class EvmSender:
    """One sender on one chain. A venue's adapter says what is called and what a receipt means; this says how it gets there."""

    def __init__(
        self,
        rpc: EvmRpc,
        signer: EvmSigner,
        lanes: Lanes,
        chain: Chain,
        validator: Validator,
        errors: Errors,
        clock: Clock,
    ) -> None:
        self.rpc = rpc
        self.chain = chain
        self.errors = errors
        self._signer = signer
        self._lanes = lanes
        self._validator = validator
        self._clock = clock
        self._absent: dict[str, int] = {}
        """By hash: the block at which another transaction of its number was final and no copy of it was there."""

    @property
    def address(self) -> str:
        """Who signs and pays the gas."""
        return self._signer.address

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the sender's lane."""
        return self._lanes.turn(lane_of(self.chain.chain_id, self.address))

    async def build(self, to: str, calldata: bytes, most_gas: int) -> Built:
        """Return a call that the chain would take now, unsigned. Raises UNREAD, OperatorError for another chain than the one
        that is set, VenueRefused for a call that would revert, would use more gas than `most_gas`, or cannot be paid for.
        """
        chain_id, head, used, balance, nonce = await asyncio.gather(
            self.rpc.chain_id(),
            self.rpc.head(),
            self._gas(to, calldata),
            self.rpc.balance(self.address),
            self.rpc.transaction_count(self.address),
        )
        if chain_id != self.chain.chain_id:
            raise OperatorError(
                f"the node at {self.rpc.host} is of chain {chain_id}, the settings say {self.chain.chain_id}: correct one"
            )
        fee = fee_for(head.base_fee_wei, self._validator.caps)
        gas = used * GAS_TENTHS // 10
        if gas > most_gas:
            raise VenueRefused(
                "gas", f"the call would use {used} units, {most_gas * 10 // GAS_TENTHS} are allowed"
            )
        if balance < gas * fee.max_wei:
            held, cost = balance / 10**18, gas * fee.max_wei / 10**18
            raise VenueRefused(
                "gas", f"{self.address} holds {held:.6f} ETH, the call may cost {cost:.6f}: send it some"
            )
        call = ContractCall(to, calldata, gas, nonce, fee)
        return Built(call, {"gas": gas, "max_fee_wei": fee.max_wei, "block": head.number})

    async def _gas(self, to: str, calldata: bytes) -> int:
        try:
            return await self.rpc.gas_of(self.address, to, calldata)
        except RpcError as error:
            if error.is_shut_out:
                raise
            raise VenueRefused(
                "contract", self.errors.words(error.data) if error.data else error.message
            ) from None

    def judge(self, built: Built) -> None:
        """Raise VenueRefused where this would not be signed. Signs nothing, and takes no number."""
        self._validator.check(self._envelope(built.payload, built.payload.next_nonce))

    def _envelope(self, call: ContractCall, nonce: int) -> Envelope:
        return Envelope(
            self.chain.chain_id, nonce, call.fee.tip_wei, call.fee.max_wei, call.gas, call.to, call.calldata
        )

    async def sign(self, built: Built) -> Signed:
        """Sign at the first number that neither the ledger has given nor the chain has used. Asks the chain nothing."""
        call: ContractCall = built.payload
        lane = lane_of(self.chain.chain_id, self.address)
        nonce = max(self._lanes.free(lane), call.next_nonce)
        copy = await self._copy(self._envelope(call, nonce))
        return Key(chain_id=self.chain.chain_id, sender=self.address, nonce=nonce, copies=[copy]).signed()

    async def _copy(self, envelope: Envelope) -> Copy:
        self._validator.check(envelope)
        digest = envelope.digest
        if self._signer.is_remote:
            signature = await asyncio.to_thread(self._signer.sign_digest, digest)
        else:
            signature = self._signer.sign_digest(digest)
        raw = envelope.signed(signature)
        return Copy(hash=hash_of(raw), raw=raw.hex(), at_ms=self._clock.now_ms())

    async def put(self, signed: Signed) -> Answer[Mined]:
        """Put the newest bytes on the wire and wait a little for their block. Never Rejected for a refusal of the node."""
        said = await self.rpc.put(bytes.fromhex(self.key(signed).newest.raw))
        if isinstance(said, Unknown):
            found = await self.find(signed)
            return said if isinstance(found, Unknown) else found
        until_ms, seen = self._clock.now_ms() + int(self.chain.wait_s * 1000), -1
        found = Unknown("taken by the node, in no block yet", answered=True)
        while isinstance(found, Unknown) and self._clock.now_ms() < until_ms:
            await self._clock.sleep(POLL_S)
            height = await self._height()
            if height is not None and height > seen:  # only a new block can say something new
                seen, found = height, await self.find(signed)
        return found

    async def _height(self) -> int | None:
        try:
            return (await self.rpc.head()).number
        except UNREAD:
            return None

    async def find(self, signed: Signed) -> Answer[Mined]:
        """Ask the chain for every copy. Confirmed(receipt): in a block that is final, whether the call succeeded or was
        reverted; Rejected: another transaction has the number for good; Unknown otherwise.
        """
        key = self.key(signed)
        try:
            for copy in key.copies:
                mined = await self.rpc.mined(copy.hash)
                if mined is not None:
                    return await self._final(mined)
            return await self._absence(key)
        except UNREAD as error:
            return Unknown(str(error))

    async def _final(self, mined: Mined) -> Answer[Mined]:
        head = await self.rpc.head()
        deep = head.number - mined.block + 1
        if deep < self.chain.confirmations:
            return Unknown(
                f"in block {mined.block}, {max(deep, 0)} of {self.chain.confirmations} blocks deep",
                answered=True,
            )
        block = await self.rpc.block(mined.block)
        if block is None or block.hash != mined.block_hash:
            return Unknown(
                f"block {mined.block} is not what the receipt says: the chain is being reorganised",
                answered=True,
            )
        return Confirmed(mined)

    async def _absence(self, key: Key) -> Answer[Mined]:
        """What it says that no node knows any copy. Every node that answers must say, of its own blocks, that another
        transaction of the number is final, and again once as many blocks have come on top as make a block final: an answer
        put together from nodes of different heights is gone by then.
        """
        if isinstance(self.rpc, EvmNodes):
            asked = [
                await self.rpc.probe(node, partial(self._used_without, node, key)) for node in self.rpc.nodes
            ]
            heights = [height for height in asked if height is not None]
        else:
            heights = [await self._used_without(self.rpc, key)]
        if not heights or min(heights) < 0:
            self._absent.pop(key.newest.hash, None)
            return Unknown(f"no block holds nonce {key.nonce} of {key.sender} yet")
        since = self._absent.setdefault(key.newest.hash, min(heights))
        if min(heights) - since < self.chain.confirmations:
            return Unknown(
                f"nonce {key.nonce} of {key.sender} is used by another transaction; not final yet",
                answered=True,
            )
        return Rejected(
            f"nonce {key.nonce} of {key.sender} was used by another transaction, final since block {since}",
            seen=True,
        )

    async def _used_without(self, node: EvmRpc, key: Key) -> int:
        """Return this node's height where it says that the number is used in a final block and no copy is known; else -1."""
        head = await node.head()
        final = head.number - self.chain.confirmations + 1
        if final < 0 or await node.transaction_count(key.sender, final) <= key.nonce:
            return -1
        for copy in key.copies:
            if await node.mined(copy.hash) is not None:
                return -1
        return head.number

    async def mined_ms(self, mined: Mined) -> int | None:
        """Return when the block of a transaction was made, UTC; None where that cannot be read now."""
        try:
            block = await self.rpc.block(mined.block)
        except UNREAD:
            return None
        return None if block is None or block.hash != mined.block_hash else block.at_s * 1000

    async def replacement(self, signed: Signed) -> Signed | None:
        """Return the key with a dearer copy, where the newest is in no block and offers less than the chain asks for now. None
        where the fee is not why, where the cap allows no more, and where the chain cannot be asked.
        """
        key = self.key(signed)
        if len(key.copies) >= MOST_COPIES:
            return None
        envelope = envelope_of(bytes.fromhex(key.newest.raw))
        try:
            head = await self.rpc.head()
            waited_ms = min(self._clock.now_ms(), head.at_s * 1000) - key.newest.at_ms
            if waited_ms < STUCK_AFTER_MS and envelope.max_fee_wei >= head.base_fee_wei:
                return None
            if await self.rpc.transaction_count(key.sender) != key.nonce:
                return None  # used already, or one before it is missing
            fee = dearer_fee(
                Fee(envelope.tip_wei, envelope.max_fee_wei), head.base_fee_wei, self._validator.caps
            )
            if fee is None:
                return None
            copy = await self._copy(envelope.dearer(fee.tip_wei, fee.max_wei))
        except (*UNREAD, OperatorError):
            return None
        return key.model_copy(update={"copies": [*key.copies, copy]}).signed()

    def key(self, signed: Signed) -> Key:
        """Return what is stored of an attempt. Raises Bug for a key of another sender or chain: it is asked nowhere else."""
        try:
            key = _KEY.validate_python(signed.key)
        except ValidationError as error:
            raise Bug(f"the key of a transaction has {error.error_count()} odd fields") from None
        if (key.chain_id, key.sender) != (self.chain.chain_id, self.address):
            raise Bug(
                f"a transaction of {key.sender} on chain {key.chain_id} is not of {self.address} on {self.chain.chain_id}"
            )
        return key

    async def why_reverted(self, signed: Signed, mined: Mined) -> str:
        """Return why a transaction was reverted: its call made again, without effect, on the block before."""
        copy = next(one for one in self.key(signed).copies if one.hash == mined.hash)
        envelope = envelope_of(bytes.fromhex(copy.raw))
        try:
            await self.rpc.view(envelope.to, envelope.calldata, mined.block - 1, mined.sender)
        except RpcError as error:
            return self.errors.words(error.data) if error.data else error.message
        except UNREAD:
            return "reverted, and why cannot be read"
        return "reverted, and would not have been a block before: out of gas, or what it depends on changed within its block"


def note_of(mined: Mined) -> dict[str, Any]:
    """Return what a receipt's detail keeps of a transaction."""
    return {
        "transaction": mined.hash,
        "block": mined.block,
        "gas_used": mined.gas_used,
        "fee_wei": str(mined.fee_wei),
    }
