"""Following a signature to its end: landed, dead by proof, or still unknown; the same bytes are resent
meanwhile.

The rule of reference/solana-asgard.md 3.3. A replacement before the proof could execute twice, because it
would have another signature and the chain's duplicate filter knows nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evenkeel.clock import Clock
from evenkeel.errors import Retryable
from evenkeel.types import Outcome, Rejected, Unknown
from venues.solana.rpc import RpcError, SolanaRpc

FOREIGN_BLOCKHASH_MARGIN = 32
"""Blocks by which our node may lag behind the one whose blockhash the builder used."""


@dataclass(frozen=True, slots=True)
class Landed:
    """In a block that a supermajority voted for. `err` not None: it failed there, cost its fee, and is
    final.
    """

    err: Any
    slot: int
    confirmation: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It can no longer land; `evidence` is the proof in words."""

    evidence: str


Fate: TypeAlias = Landed | Dead | Unknown


@dataclass(frozen=True, slots=True)
class Payload:
    """One signed transaction to follow. `raw` is None where the bytes are no longer known."""

    signature: str
    raw: bytes | None


class Confirmer:
    """Sends, resends, polls and proves, against one node and, where there is one, a second provider."""

    def __init__(self, rpc: SolanaRpc, clock: Clock, second: SolanaRpc | None = None) -> None:
        self.rpc = rpc
        self._clock = clock
        self._second = second

    async def height_limit(self) -> int:
        """An upper bound for the last block height at which a transaction built up to now can land."""
        latest = await self.rpc.get_latest_blockhash("processed")
        return latest.last_valid_block_height + FOREIGN_BLOCKHASH_MARGIN

    async def fate(self, signature: str, lvbh_max: int) -> Fate:
        """What became of a signature. Never raises for transport reasons: not knowing is an answer."""
        fate = await self._fate_at(self.rpc, signature, lvbh_max)
        if not isinstance(fate, Dead) or self._second is None:
            return fate
        second = await self._fate_at(self._second, signature, lvbh_max)
        if isinstance(second, Dead):
            return Dead(f"{fate.evidence}; {second.evidence}")
        return second

    async def _fate_at(self, rpc: SolanaRpc, signature: str, lvbh_max: int) -> Fate:
        try:
            landed = (await rpc.get_signature_statuses([signature], history=True)).found[0]
            if landed is not None:
                return _as_fate(signature, landed)
            tip = await rpc.get_epoch_info("finalized")
            if tip.block_height <= lvbh_max:
                return Unknown(
                    f"{signature} not seen; finalized height {tip.block_height} has not passed {lvbh_max}"
                )
            after = await rpc.get_signature_statuses([signature], history=True)
        except (Retryable, RpcError) as error:
            return Unknown(f"status of {signature}: {error}")
        if after.found[0] is not None:
            return _as_fate(signature, after.found[0])
        if after.context_slot < tip.absolute_slot:
            return Unknown(
                f"{signature}: {rpc.host} answered at slot {after.context_slot}, behind {tip.absolute_slot}"
            )
        return Dead(
            f"{signature} never landed: finalized height {tip.block_height} passed {lvbh_max}; {rpc.host}, "
            f"asked with history at slot {after.context_slot}, does not know it"
        )

    async def settle(
        self,
        payloads: Sequence[Payload],
        lvbh_max: int,
        *,
        patience_s: float = 20.0,
        poll_s: float = 1.0,
        resend_s: float = 2.0,
        already_sent: bool = False,
        preflight: bool = True,
    ) -> list[Fate]:
        """Follow transactions, in order, until each landed or died; Unknown once `patience_s` has passed.

        A later transaction of a build is sent by us only after the earlier ones landed without error: it may
        need the accounts they create, and out of order it would land and fail. With `already_sent` somebody
        else has handed them over and we join in after `resend_s`; otherwise our first send is at once.
        """
        deadline_ms = self._clock.now_ms() + int(patience_s * 1000)
        fates: list[Fate] = [Unknown(f"{one.signature} not asked for yet") for one in payloads]
        sent_ms: dict[int, int] = {}
        if already_sent:
            sent_ms = dict.fromkeys(range(len(payloads)), self._clock.now_ms())
        while True:
            for index, payload in enumerate(payloads):
                if isinstance(fates[index], Unknown):
                    fates[index] = await self._step(
                        index, payload, lvbh_max, sent_ms, resend_s, preflight, _open_road(fates, index)
                    )
            now = self._clock.now_ms()
            if all(not isinstance(fate, Unknown) for fate in fates) or now >= deadline_ms:
                return fates
            await self._clock.sleep(poll_s)

    async def _step(
        self,
        index: int,
        payload: Payload,
        lvbh_max: int,
        sent_ms: dict[int, int],
        resend_s: float,
        preflight: bool,
        may_send: bool,
    ) -> Fate:
        now = self._clock.now_ms()
        first = index not in sent_ms
        due = first or now - sent_ms[index] >= resend_s * 1000
        refused: Rejected | None = None
        if payload.raw is not None and may_send and due:
            sent_ms[index] = now
            answer = await (self.send if first and preflight else self.resend)(payload.raw)
            refused = answer if isinstance(answer, Rejected) else None
        fate = await self.fate(payload.signature, lvbh_max)
        if refused is not None and isinstance(fate, Unknown):
            return Dead(refused.reason)
        return fate

    async def send(self, raw: bytes) -> Outcome[str]:
        """First send, with preflight at the commitment that everything else uses."""
        return await self.rpc.send_transaction(raw, skip_preflight=False)

    async def resend(self, raw: bytes) -> Outcome[str]:
        """The same bytes again; no preflight, and the node is not to rebroadcast on its own."""
        return await self.rpc.send_transaction(raw, skip_preflight=True, max_retries=0)


def _as_fate(signature: str, status: Any) -> Fate:
    if status.settled:
        return Landed(status.err, status.slot, status.confirmation)
    return Unknown(f"{signature} is only {status.confirmation} at slot {status.slot}")


def _open_road(fates: Sequence[Fate], index: int) -> bool:
    return all(isinstance(fate, Landed) and fate.err is None for fate in fates[:index])
