"""Following a signature to its end: landed, dead by proof, or still unknown; the same bytes are resent
meanwhile.

The rule of docs/exactly-once.md, "Keys and proofs". A replacement before the proof could execute twice, because it
would have another signature and the chain's duplicate filter knows nothing of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, EvenkeelError
from evenkeel.types import Confirmed, Outcome, Rejected, Unknown
from venues.jsonrpc import RpcError
from venues.solana.answers import Landing
from venues.solana.failover import FailoverRpc
from venues.solana.heights import FOREIGN_BLOCKHASH_MARGIN, Life, how_far, last_valid_height
from venues.solana.rpc import SolanaRpc

ALONE_AFTER_BLOCKS = 600
"""Finalized blocks beyond the limit after which one of two nodes may call a *way out* dead alone: four lives of a blockhash,
some three to four minutes, in which the other was away or stood still. Should the one be wrong, closing what is closed
already fails, and a shrinking that landed shows as a smaller leg before the next is planned: it costs a fee, or an alarm. To
wait for ever would leave the leg naked. An opening waits for both, however long that takes.
"""
POLL_S = 1.0
RESEND_S = 2.0
NODE_TIMEOUT_S = 10.0
"""Wall seconds for all that one of two nodes is asked about a signature: up to three readings, one after the other."""


Source: TypeAlias = Literal["status", "transaction", "list"]
_SOURCES: tuple[Source, ...] = get_args(Source)


@dataclass(frozen=True, slots=True)
class Landed:
    """In a block that a supermajority voted for. `err` not None: it failed there, cost its fee, and is
    final. `source` is what said so.
    """

    err: Any
    slot: int
    confirmation: str
    source: Source = field(default="status", compare=False)

    @property
    def is_final(self) -> bool:
        return self.confirmation == "finalized"


@dataclass(frozen=True, slots=True)
class Dead:
    """It can no longer land; `evidence` is the proof in words, `beyond` how many finalized blocks past its limit it is."""

    evidence: str
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Alone(Unknown):
    """One source of one node says that it failed, and nothing speaks for or against that."""

    failed: Landed | None = None


SignatureResult: TypeAlias = Landed | Dead | Unknown


@dataclass(frozen=True, slots=True)
class Payload:
    """One signed transaction to follow. `raw` is None where the bytes are no longer known."""

    signature: str
    raw: bytes | None


class Confirmer:
    """Sends, resends, polls and proves, against one node, or two: a `FailoverRpc`, each of whose nodes is asked by itself."""

    def __init__(self, rpc: SolanaRpc, clock: Clock, wallet: str = "") -> None:
        self.rpc = rpc
        self._clock = clock
        self._wallet = wallet
        """Who pays for what is followed here: the list of his transactions proves too. Empty: not known."""

    async def height_limit(self) -> int:
        """Return an upper bound for the last block height at which a transaction built up to now can land.

        Of two nodes the one that is further ahead says it: the other may lag behind the builder's. Raises UNREAD.
        """
        heights: list[int] = []
        if isinstance(self.rpc, FailoverRpc):
            asked = (self.rpc.probe(node, partial(last_valid_height, node)) for node in self.rpc.nodes)
            found = await asyncio.gather(*asked, return_exceptions=True)
            heights = [one for one in found if isinstance(one, int)]
        if not heights:
            heights = [await last_valid_height(self.rpc)]
        return max(heights) + FOREIGN_BLOCKHASH_MARGIN

    async def result_of(
        self, signature: str, lvbh_max: int, *, built_at_ms: int | None = None, is_exit: bool = False
    ) -> SignatureResult:
        """Return what became of a signature. Never raises for transport reasons: not knowing is an answer.

        A failure counts once it is final, unless it is of a way out: a block that is only confirmed may in principle be left
        out yet, and what failed in it land elsewhere, where a second opening would stand beside it.
        """
        return await self._judged_result(signature, Life(lvbh_max, built_at_ms), is_exit=is_exit)

    async def _judged_result(self, signature: str, life: Life, *, is_exit: bool) -> SignatureResult:
        result = await self._result_of(signature, life, is_exit=is_exit)
        if isinstance(result, Landed) and result.err is not None and not is_exit and not result.is_final:
            return Unknown(f"{signature} failed in slot {result.slot} ({result.err}), which is not final yet")
        return result

    async def _result_of(self, signature: str, life: Life, *, is_exit: bool) -> SignatureResult:
        """A landing that either node saw counts. It is dead when both say so; a way out (`is_exit`) also when one does
        that is `ALONE_AFTER_BLOCKS` beyond, for then the other is of no use.
        """
        if not isinstance(self.rpc, FailoverRpc):
            return await self._result_at(self.rpc, signature, life)
        dead: list[Dead] = []
        unknown: list[Unknown] = []
        alone: list[Landed] = []
        # One after the other: a question given up half-way would be noted as a failure of a healthy node.
        for node in self.rpc.nodes:
            result = await self._result_at_node(self.rpc, node, signature, life)
            if isinstance(result, Landed):
                return result
            if isinstance(result, Dead):
                dead.append(result)
            else:
                unknown.append(result)
            if isinstance(result, Alone) and result.failed is not None:
                alone.append(result.failed)
        if len(alone) == len(self.rpc.nodes):  # two nodes are two sources
            return max(alone, key=lambda one: one.is_final)
        if not unknown:
            return Dead("; ".join(one.evidence for one in dead), min(one.beyond for one in dead))
        if is_exit and dead and dead[0].beyond > ALONE_AFTER_BLOCKS:
            words = f"{dead[0].evidence}; {dead[0].beyond} blocks later it says so alone: {unknown[0].reason}"
            return Dead(words, dead[0].beyond)
        return unknown[0]

    async def _result_at_node(
        self, pair: FailoverRpc, node: SolanaRpc, signature: str, life: Life
    ) -> SignatureResult:
        try:
            asked = partial(self._asked, node, signature, life)
            found = await pair.probe(node, asked, NODE_TIMEOUT_S)
        except RpcError as error:
            return Unknown(f"status of {signature}: {error}")
        return found or Unknown(f"status of {signature}: {node.host} cannot be reached")

    async def _result_at(self, rpc: SolanaRpc, signature: str, life: Life) -> SignatureResult:
        try:
            return await self._asked(rpc, signature, life)
        except UNREAD as error:
            return Unknown(f"status of {signature}: {error}")

    async def _asked(self, rpc: SolanaRpc, signature: str, life: Life) -> SignatureResult:
        """What one node knows and proves. Raises `Retryable` or `RpcError`."""
        found = await self._found(rpc, signature, life)
        if isinstance(found, Landed) and found.err is not None:
            return await self._agreed(rpc, signature, found)
        return found

    async def _agreed(self, rpc: SolanaRpc, signature: str, failed: Landed) -> SignatureResult:
        """A failure leads to another order, so that one odd field must not make one: it counts once two of status,
        transaction and list of the wallet's transactions say so. Success counts where the other two say that.
        """
        succeeded: Landed | None = None
        for source in _SOURCES:
            other = None if source == failed.source else await self._by(source, rpc, signature, failed.slot)
            if other is None:
                continue
            if other.err is not None:
                return other if other.is_final else failed
            if succeeded is not None:
                return succeeded
            succeeded = other
        if succeeded is None:
            return Alone(
                f"{signature} landed in slot {failed.slot}; its {failed.source} alone says that it failed ({failed.err})",
                failed=failed,
            )
        said = f"its {succeeded.source} says that it did not"
        return Unknown(
            f"{signature} landed in slot {failed.slot}; its {failed.source} says that it failed ({failed.err}), {said}"
        )

    async def _by(self, source: Source, rpc: SolanaRpc, signature: str, slot: int) -> Landed | None:
        """The landing as one source shows it; None where it does not, or not now."""
        try:
            if source == "status":
                (row,) = (await rpc.get_signature_statuses([signature], history=True)).found
                found = None if row is None else _as_result(signature, row)
                return found if isinstance(found, Landed) else None
            if source == "transaction":
                return await _shown(rpc, signature)
            rows = await rpc.get_landed(self._wallet, slot) if self._wallet else []
        except UNREAD:
            return None
        return _listed(rows, signature)

    async def _found(self, rpc: SolanaRpc, signature: str, life: Life) -> SignatureResult:
        """The same, by the first source that says it."""
        try:
            landed = (await rpc.get_signature_statuses([signature], history=True)).found[0]
        except UNREAD as fault:
            return await self._without_status(rpc, signature, life, fault)
        if landed is not None:
            found = _as_result(signature, landed)
            # A provider's statuses may stay at `processed` for good while its ledger has the transaction.
            return found if isinstance(found, Landed) else await _shown(rpc, signature) or found
        passed = await how_far(rpc, life, self._clock.now_ms())
        if isinstance(passed, str):
            return Unknown(f"{signature} not seen; {passed}")
        after = await rpc.get_signature_statuses([signature], history=True)
        if after.found[0] is not None:
            return _as_result(signature, after.found[0])
        if after.context_slot < passed.slot:
            return Unknown(
                f"{signature}: {rpc.host} answered at slot {after.context_slot}, behind {passed.slot}"
            )
        if (
            shown := await _shown(rpc, signature)
        ) is not None:  # its statuses do not know what its ledger has
            return shown
        return Dead(
            f"{signature} never landed: {passed.words}; {rpc.host}, "
            f"asked with history at slot {after.context_slot}, does not know it",
            passed.beyond,
        )

    async def _without_status(
        self, rpc: SolanaRpc, signature: str, life: Life, fault: EvenkeelError
    ) -> SignatureResult:
        """What the ledger of a node shows that does not say the status: the transaction, or that it is not among the finalized
        ones of our wallet. Whatever landed up to the last block that could hold it is, where the list goes on to one that is
        older. Raises `fault` where that is not so, and what `get_transaction` raises where the ledger cannot be asked.
        """
        found = await rpc.get_transaction(signature)
        if (landed := _landing_in(found)) is not None:
            return landed
        if not self._wallet:
            raise fault
        if found is not None:
            return Unknown(
                f"{signature} is in slot {found.get('slot')}, and what became of it cannot be read"
            )
        passed = await how_far(rpc, life, self._clock.now_ms())
        if isinstance(passed, str):
            return Unknown(f"{signature} not seen; {passed}")
        rows = await rpc.get_landed(self._wallet, passed.slot)
        if (landed := _listed(rows, signature)) is not None:
            return landed
        if not rows or rows[-1].slot >= passed.since_slot:  # pruned, or cut short: it may be what is missing
            raise fault
        return Dead(
            f"{signature} never landed: {passed.words}; {rpc.host} lists the "
            f"transactions of {self._wallet} up to slot {passed.slot}, and it is not among them",
            passed.beyond,
        )

    async def settle(
        self,
        payloads: Sequence[Payload],
        lvbh_max: int,
        *,
        built_at_ms: int | None = None,
        wait_s: float = 20.0,
        already_sent: bool = False,
        preflight: bool = True,
        is_exit: bool = False,
    ) -> list[SignatureResult]:
        """Follow transactions, in order, until each landed or died; Unknown once `wait_s` has passed.

        A later transaction of a build is sent by us only after the earlier ones landed without error: it may
        need the accounts they create, and out of order it would land and fail. With `already_sent` somebody
        else has handed them over and we join in after RESEND_S seconds; otherwise our first send is at once.
        """
        deadline_ms = self._clock.now_ms() + int(wait_s * 1000)
        results: list[SignatureResult] = [Unknown(f"{one.signature} not asked for yet") for one in payloads]
        sent_ms: dict[int, int] = {}
        if already_sent:
            sent_ms = dict.fromkeys(range(len(payloads)), self._clock.now_ms())
        while True:
            for index, payload in enumerate(payloads):
                if isinstance(results[index], Unknown):
                    results[index] = await self._step(
                        index,
                        payload,
                        Life(lvbh_max, built_at_ms),
                        sent_ms,
                        preflight,
                        _earlier_ones_landed(results, index),
                        is_exit,
                    )
            now = self._clock.now_ms()
            if all(not isinstance(result, Unknown) for result in results) or now >= deadline_ms:
                return results
            await self._clock.sleep(POLL_S)

    async def _step(
        self,
        index: int,
        payload: Payload,
        life: Life,
        sent_ms: dict[int, int],
        preflight: bool,
        may_send: bool,
        is_exit: bool,
    ) -> SignatureResult:
        now = self._clock.now_ms()
        first = index not in sent_ms
        due = first or now - sent_ms[index] >= RESEND_S * 1000
        refused: Rejected | None = None
        said_no = False
        if payload.raw is not None and may_send and due:
            sent_ms[index] = now
            answer = await (self.send if first and preflight else self.resend)(payload.raw)
            refused = answer if isinstance(answer, Rejected) else None
            said_no = isinstance(answer, Unknown) and answer.answered
        result = await self._judged_result(payload.signature, life, is_exit=is_exit)
        if refused is not None and isinstance(result, Unknown):
            return Dead(refused.reason)
        if said_no and isinstance(result, Unknown):
            return replace(result, answered=True)
        return result

    async def send(self, raw: bytes) -> Outcome[str]:
        """Send the first time, with preflight at the commitment that everything else uses."""
        return await self._hand_over(raw, skip_preflight=False)

    async def resend(self, raw: bytes) -> Outcome[str]:
        """Send the same bytes again; no preflight, and the node is not to rebroadcast on its own."""
        return await self._hand_over(raw, skip_preflight=True, max_retries=0)

    async def _hand_over(self, raw: bytes, **options: Any) -> Outcome[str]:
        """To every node that can be reached: the same bytes land once, and one node that takes them is enough."""
        if not isinstance(self.rpc, FailoverRpc):
            return await self.rpc.send_transaction(raw, **options)
        asked = (
            self.rpc.probe(node, partial(node.send_transaction, raw, **options)) for node in self.rpc.nodes
        )
        answers = [one for one in await asyncio.gather(*asked) if one is not None]
        for kind in (Confirmed, Rejected):
            for one in answers:
                if isinstance(one, kind):
                    return one
        return answers[0] if answers else Unknown(f"neither of {self.rpc.host} answered sendTransaction")


async def _shown(rpc: SolanaRpc, signature: str) -> Landed | None:
    """The landing as the transaction itself shows it, for a node that does not say the status. None proves nothing."""
    try:
        return _landing_in(await rpc.get_transaction(signature))
    except UNREAD:
        return None


def _landing_in(found: dict[str, Any] | None) -> Landed | None:
    meta, slot = (found or {}).get("meta"), (found or {}).get("slot")
    if not isinstance(meta, dict) or "err" not in meta or not isinstance(slot, int):
        return None
    return Landed(meta["err"], slot, "confirmed", "transaction")


def _listed(rows: Sequence[Landing], signature: str) -> Landed | None:
    """The landing as a list of finalized transactions shows it."""
    found = (Landed(one.err, one.slot, "finalized", "list") for one in rows if one.signature == signature)
    return next(found, None)


def _as_result(signature: str, status: Any) -> SignatureResult:
    if status.settled:
        return Landed(status.err, status.slot, status.confirmation)
    return Unknown(f"{signature} is only {status.confirmation} at slot {status.slot}")


def _earlier_ones_landed(results: Sequence[SignatureResult], index: int) -> bool:
    return all(isinstance(result, Landed) and result.err is None for result in results[:index])
