"""What became of a build, and the receipt of one that landed: from our own node first, from Asgard's rows
second.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, Retryable
from evenkeel.legs import LegReceipt, LendingChange
from evenkeel.types import Confirmed, Fill, Outcome, Receipt, Rejected, Unknown, VenueName
from venues.asgard.client import AsgardClient
from venues.asgard.effects import (
    ZERO,
    Effect,
    executed_metadata,
    read_effect,
    total,
)
from venues.asgard.mints import token
from venues.asgard.models import LivePosition, PositionRecord
from venues.asgard.no_effect import proof_of_no_effect
from venues.solana.confirm import Dead, Landed, SignatureResult
from venues.solana.rpc import SolanaRpc
from venues.timing import can_be

METADATA_WAIT_S = 60.0
"""The vendor's own figure for how long executed metadata may be missing."""
READ_WAIT_S = 10.0
UNSTAMPED_MS = 10_000
"""After it was built, a transaction has landed that the node shows without the time of its block."""


class Receipts:
    """Turns the results of a build's signatures into one outcome with a receipt."""

    def __init__(self, client: AsgardClient, rpc: SolanaRpc, clock: Clock, wallet: str) -> None:
        self._client = client
        self._rpc = rpc
        self._clock = clock
        self._wallet = wallet

    async def conclude(self, key: dict[str, Any], results: Sequence[SignatureResult]) -> Outcome[Receipt]:
        """Return one outcome for a whole build; `key` is what `sign` stored.

        Nothing is said while any signature is open. Then what *landed* decides: where it moved the position,
        that is a confirmation, however many others died. Where it only set up accounts (of two transactions
        the first landed, the second died), the attempt is rejected: the position is as before, and a new
        attempt finds the accounts in place. So is one that landed, is final and left the position as it was.
        """
        for result in results:
            if isinstance(result, Unknown):
                return result
        landed = [
            (signature, result)
            for signature, result in zip(key["signatures"], results, strict=True)
            if isinstance(result, Landed) and result.err is None
        ]
        refusal = "; ".join(
            result.evidence
            if isinstance(result, Dead)
            else f"{signature} landed in slot {result.slot} and failed: {result.err}"
            for signature, result in zip(key["signatures"], results, strict=True)
            if isinstance(result, Dead) or (isinstance(result, Landed) and result.err is not None)
        )
        if not landed:
            return Rejected(refusal)
        try:
            effects = [await self._effect(key, signature, result.slot) for signature, result in landed]
            effect = total(effects)
            if not effect.moved and refusal:
                return Rejected(f"only account set-up landed ({landed[0][0]}); {refusal}")
            if not effect.moved:
                return await proof_of_no_effect(self._rpc, key, landed)
            moved = next(
                (one, result.slot)
                for (one, result), found in zip(landed, effects, strict=True)
                if found.moved
            )
            return Confirmed(await self._receipt(key, *moved, effect, refusal))
        except UNREAD as error:
            return Unknown(f"{landed[-1][0]} landed, its details cannot be read yet: {error}")

    async def _effect(self, key: dict[str, Any], signature: str, slot: int) -> Effect:
        """What the transaction did, as the node shows it, or else its block. It may be confirmed a little before the node can
        show it.
        """
        until = self._clock.now_ms() + int(READ_WAIT_S * 1000)
        for attempt in itertools.count():
            found = await self._shown(key, signature, slot)
            if found is not None:
                return found
            if self._clock.now_ms() >= until:
                break
            await self._clock.sleep(min(0.5 * 2**attempt, 2.0))
        block = await self._rpc.get_transaction_in_block(slot, signature)
        if block is not None:
            return self._read(key, block)
        raise Retryable(f"node {self._rpc.host} does not show transaction {signature}")

    async def _shown(self, key: dict[str, Any], signature: str, slot: int) -> Effect | None:
        try:
            found = await self._rpc.get_transaction(signature)
            return None if found is None else self._read(key, found)
        except UNREAD as fault:
            try:
                found = await self._rpc.get_transaction_in_block(slot, signature)
                return None if found is None else self._read(key, found)
            except UNREAD:
                raise fault from None

    def _read(self, key: dict[str, Any], found: dict[str, Any]) -> Effect:
        return read_effect(key["op"], token(key["asset"]), self._wallet, found)

    async def _receipt(
        self, key: dict[str, Any], signature: str, slot: int, effect: Effect, refusal: str
    ) -> Receipt:
        record = await self._record(key, signature)
        if not effect.fee_is_certain:
            effect, record = await self._with_fee(key, signature, effect, record)
        pda = (
            key.get("position_pda")
            or (record.pda if record else None)
            or await self._pda(key, signature, slot)
        )
        settled_ms = self._landed_ms(effect.time_ms, int(key["built_at_ms"]))
        change = self._change(key, effect, record)
        price = effect.price_usd
        fills = []
        if price is not None:
            fills.append(
                Fill(
                    fill_id=signature,
                    venue=VenueName.ASGARD,
                    asset=key["asset"],
                    side="buy" if effect.tokens_bought > 0 else "sell",
                    qty=effect.swap_tokens,
                    price_usd=price,
                    fee_usd=effect.protocol_fee_usd,
                    order_ref=pda,
                    time_ms=settled_ms,
                )
            )
        detail: dict[str, Any] = {
            "op": key["op"],
            "protocol": key["protocol"],
            "signatures": list(key["signatures"]),
            "wallet_lamports_delta": effect.wallet_lamports_delta,
            "wallet_token_delta": str(effect.wallet_token_delta),
            "position_id": record.id if record else None,
        }
        if key.get("seen"):
            detail["seen"] = key["seen"]
        if refusal:
            detail["failed_parts"] = refusal
        return LegReceipt(
            ref=pda,
            done_qty=effect.swap_tokens,
            avg_price_usd=price,
            fills=fills,
            lending=change,
            settled_ms=settled_ms,
            detail=detail,
        )

    def _landed_ms(self, block_ms: int | None, built_ms: int) -> int:
        """Return when the block was made by its own time, where that can be: no earlier than the build and not in the future.
        Else when such a transaction has landed at the latest.
        """
        now_ms = self._clock.now_ms()
        if block_ms and can_be(block_ms, built_ms, now_ms):
            return block_ms
        return min(now_ms, built_ms + UNSTAMPED_MS)

    async def _record(self, key: dict[str, Any], signature: str) -> PositionRecord | None:
        """Asgard's row, found by position or by the opening transaction. Missing rows do happen: never
        essential.
        """
        try:
            if key.get("position_pda"):
                return await self._client.position(key["position_pda"])
            rows = await self._client.positions(self._wallet)
            return next((row for row in rows if row.open_tx == signature), None)
        except UNREAD:
            return None

    async def _with_fee(
        self, key: dict[str, Any], signature: str, effect: Effect, record: PositionRecord | None
    ) -> tuple[Effect, PositionRecord | None]:
        """A route over several pools hides the protocol's fee: wait for the executed metadata, at most a
        minute.
        """
        until = self._clock.now_ms() + int(METADATA_WAIT_S * 1000)
        while True:
            fee = _metadata_fee(record, signature)
            if fee is not None:
                return _replace_fee(effect, fee), record
            if self._clock.now_ms() >= until or key["op"] not in ("open_long", "close_long"):
                return effect, record
            await self._clock.sleep(2.0)
            record = await self._record(key, signature) or record

    async def _pda(self, key: dict[str, Any], signature: str, slot: int) -> str:
        """A position without a row: one of the transaction's own accounts, the one that is a position of
        ours.
        """
        try:
            found = await self._rpc.get_transaction(signature)
        except UNREAD:
            found = await self._rpc.get_transaction_in_block(slot, signature)
        message = (found or {}).get("transaction", {}).get("message", {})
        loaded = ((found or {}).get("meta") or {}).get("loadedAddresses") or {}
        names = [
            key_["pubkey"] if isinstance(key_, dict) else key_ for key_ in message.get("accountKeys", [])
        ]
        names += [*loaded.get("writable", []), *loaded.get("readonly", [])]
        live = await self._client.refresh([(key["protocol"], name) for name in names if name != self._wallet])
        ours = [
            pda
            for pda, position in live.items()
            if isinstance(position, LivePosition) and position.authority == self._wallet
        ]
        if len(ours) != 1:
            raise Retryable(f"{len(ours)} accounts of {signature} are positions of ours, expected one")
        return ours[0]

    def _change(self, key: dict[str, Any], effect: Effect, record: PositionRecord | None) -> LendingChange:
        before, debt_before = _before(key, effect, record)
        return LendingChange(
            tokens_before=before,
            tokens_after=before + effect.tokens_bought - effect.tokens_sold,
            debt_before_usd=debt_before,
            debt_after_usd=debt_before + effect.borrowed_usd - effect.repaid_usd,
            swap_token_qty=effect.swap_tokens,
            swap_usdc_qty=effect.swap_usdc,
            wallet_usdc_delta=effect.wallet_usdc_delta,
            protocol_fee_usd=effect.protocol_fee_usd,
            gas_lamports=effect.gas_lamports,
            tip_lamports=int(key.get("tip_lamports", 0)),
        )


def _before(key: dict[str, Any], effect: Effect, record: PositionRecord | None) -> tuple[Decimal, Decimal]:
    """Tokens and debt before the change, interest up to it included.

    An open starts from nothing, and a close ends there where it moved all that the reading at build time showed: then the
    movement itself says it. One that moved less left the rest on the lender. For a resize the row's
    amounts are those right after the last update; where they fit the reading taken at build time (they may
    not, when another update came later or the row was never written), before is after less the movement.
    Without a fitting row the reading itself is taken: it lacks the interest of the seconds up to the landing.
    """
    if key["op"] == "open_long":
        return ZERO, ZERO
    stored = key.get("before") or {}
    tokens, debt = Decimal(stored.get("tokens", "0")), Decimal(stored.get("debt_usd", "0"))
    if key["op"] == "close_long":
        return (
            effect.tokens_sold if _close(effect.tokens_sold, tokens) else max(effect.tokens_sold, tokens),
            effect.repaid_usd if _close(effect.repaid_usd, debt) else max(effect.repaid_usd, debt),
        )
    if record is not None and record.token_a_amount is not None and record.token_b_amount is not None:
        from_row = record.token_a_amount - effect.tokens_bought + effect.tokens_sold
        debt_from_row = record.token_b_amount - effect.borrowed_usd + effect.repaid_usd
        if _close(from_row, tokens) and _close(debt_from_row, debt):
            return from_row, debt_from_row
    return tokens, debt


def _close(a: Decimal, b: Decimal) -> bool:
    """Apart by no more than the interest between a build and its landing could make (a minute at 500 % a
    year).
    """
    return abs(a - b) <= Decimal("0.00001") * max(abs(a), abs(b)) + Decimal("0.00001")


def _metadata_fee(record: PositionRecord | None, signature: str) -> Decimal | None:
    if record is None:
        return None
    opening = record.open_tx == signature
    executed = executed_metadata(record.entry_metadata if opening else record.exit_metadata)
    fees = (record.open_fees if opening else record.close_fees) or {}
    found = (executed or {}).get("protocolFeeUSD", fees.get("protocolFeeUSD") if executed else None)
    return None if found is None else Decimal(str(found))


def _replace_fee(effect: Effect, fee_usd: Decimal) -> Effect:
    return replace(effect, protocol_fee_usd=fee_usd, fee_is_certain=True)
