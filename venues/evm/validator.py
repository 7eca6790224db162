"""What may be signed for a chain: calls of named functions of named contracts, by what their arguments say. Nothing else.

The judgement is made of the very bytes that are signed, decoded anew, whoever built them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from evenkeel.errors import NotUnderstood, VenueRefused
from venues.evm.codec import Function
from venues.evm.fees import FeeCaps
from venues.evm.transactions import Envelope

Arguments: TypeAlias = tuple[Any, ...]
MayCall: TypeAlias = Callable[[Arguments], str | None]
"""Why a call with these arguments is not signed; None where it may be."""


@dataclass(frozen=True)
class Allowed:
    """A function that may be called, and what is asked of its arguments."""

    function: Function
    judge: MayCall


@dataclass(frozen=True)
class Validator:
    """What one key may sign: on which chain, by contract (address in lower case) which functions, for how much gas."""

    chain_id: int
    calls: Mapping[str, tuple[Allowed, ...]]
    most_gas: int
    caps: FeeCaps

    def check(self, envelope: Envelope) -> None:
        """Raise VenueRefused where this may not be signed, with the reason."""
        if (why := self._why_not(envelope)) is not None:
            raise VenueRefused("validator", why)

    def _why_not(self, envelope: Envelope) -> str | None:
        if envelope.chain_id != self.chain_id:
            return f"it is for chain {envelope.chain_id}, allowed is {self.chain_id}"
        if not 0 < envelope.gas <= self.most_gas:
            return f"it may use {envelope.gas} units of gas, allowed are {self.most_gas}"
        if not envelope.tip_wei <= envelope.max_fee_wei <= self.caps.most_wei:
            return f"it offers {envelope.max_fee_wei} wei a unit of gas, allowed are {self.caps.most_wei}"
        functions = self.calls.get(envelope.to)
        if functions is None:
            return f"it calls {envelope.to}, which is none of the contracts of the settings"
        for one in functions:
            if envelope.calldata[:4] == one.function.selector:
                try:
                    return one.judge(one.function.arguments(envelope.calldata))
                except NotUnderstood as odd:
                    return str(odd)
        return f"it calls 0x{envelope.calldata[:4].hex()} of {envelope.to}, which is not among what this key may call"
