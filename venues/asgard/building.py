"""From an order to signed transactions: what a build must satisfy before we sign it, and what is stored about
it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.errors import Retryable, VenueRefused
from evenkeel.types import Signed
from venues.asgard.client import BuildBlob
from venues.asgard.models import LivePosition, PositionRecord
from venues.asgard.orders import AsgardOrder, CloseLong, OpenLong
from venues.solana.fees import unit_limit
from venues.solana.keys import SolanaSigner
from venues.solana.rules.approval import Refused
from venues.solana.rules.common import Expectation, Rules
from venues.solana.rules.validator import Verdict, judge
from venues.solana.transactions import UnsafeBuild, sign_approved
from venues.solana.view import ChainView

MAX_BUILD_AGE_MS = 10_000
"""150 blocks may be half a minute of life, counted from when the *builder* fetched the blockhash."""


@dataclass(frozen=True, slots=True)
class AsgardBuild:
    """An unsigned build that passed every rule. `record` is the database row of the position it changes."""

    order: AsgardOrder
    blob: BuildBlob
    verdict: Verdict
    lvbh_max: int
    built_at_ms: int
    position_pda: str | None
    before: LivePosition | None
    record: PositionRecord | None
    position_digest: str | None = None
    """Of the position's account as it stood before (`venues.asgard.no_effect.digest`)."""
    seen: dict[str, Any] | None = None
    """Prices as read for the order (`venues.asgard.approving.FairPrice.seen`)."""

    def __repr__(self) -> str:
        return f"AsgardBuild({self.order.op}, {len(self.verdict.approved)} transactions, {self.blob!r})"


@dataclass(frozen=True, slots=True)
class SignedBuild:
    """Signed bytes and the body of the submit, in memory only. `body` is None where Asgard has no row to
    update.
    """

    raws: list[bytes]
    path: str
    body: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"SignedBuild({len(self.raws)} transactions)"


@dataclass(frozen=True, slots=True)
class Locks:
    """What one transaction locks for writing, entries of lookup tables included, and its unit limit, if it sets one."""

    accounts: tuple[str, ...]
    units: int | None


def locks_of(build: AsgardBuild) -> list[Locks]:
    """Return what each transaction of a build locks, in order."""
    return [
        Locks(tuple(sorted(map(str, keys.writable))), unit_limit(approved.unsigned))
        for approved, keys in zip(build.verdict.approved, build.verdict.keys, strict=True)
    ]


def judged(
    order: AsgardOrder, blob: BuildBlob, expectation: Expectation, view: ChainView, rules: Rules
) -> Verdict:
    """Return the verdict on *all* transactions, before any is signed. Raises `UnsafeBuild` naming the rule."""
    verdict = judge(blob.encoded, expectation, view, rules)
    if isinstance(verdict, Refused):
        raise UnsafeBuild.of(verdict)
    hinted = blob.hint("positionPDA", "positionPda")
    wanted = verdict.position if isinstance(order, OpenLong) else order.position_pda
    if hinted is not None and wanted is not None and hinted != str(wanted):
        raise UnsafeBuild(
            f"rule position: it is said to be for {hinted}, its transactions are for {wanted}", "position"
        )
    return verdict


def expected_amounts(order: AsgardOrder) -> dict[str, str]:
    """Return what the order asks for, for people and for the stored note."""
    fields = order.model_dump(mode="json", exclude={"token_a_bank", "token_b_bank", "decided"})
    return {key: str(value) for key, value in fields.items()}


def signed_build(build: AsgardBuild, signer: SolanaSigner, now_ms: int, wallet: str) -> Signed:
    """Sign all transactions of a fresh build. Raises `Retryable` for one that is too old: it must be
    rebuilt.
    """
    age = now_ms - build.built_at_ms
    if age > MAX_BUILD_AGE_MS:
        raise Retryable(f"the build is {age} ms old, the limit is {MAX_BUILD_AGE_MS} ms: build again")
    signed = [sign_approved(approved, signer) for approved in build.verdict.approved]
    signatures = [str(transaction.signatures[0]) for transaction in signed]
    raws = [bytes(transaction) for transaction in signed]
    order = build.order
    key = {
        "op": order.op,
        "signatures": signatures,
        "lvbh_max": build.lvbh_max,
        "position_pda": build.position_pda,
        "protocol": order.protocol,
        "asset": order.asset,
        "built_at_ms": build.built_at_ms,
        "tip_lamports": build.verdict.tip_lamports,
        "before": _before(build.before),
        "position_digest": build.position_digest,
        "seen": build.seen,
    }
    encoded = [base64.b64encode(raw).decode() for raw in raws]
    return Signed(key, SignedBuild(raws, order.submit_path, submit_body(build, encoded, wallet)))


def _before(live: LivePosition | None) -> dict[str, str] | None:
    if live is None:
        return None
    collateral, debt = live.collateral(), live.debt()
    return {
        "tokens": str(collateral.assets if collateral else Decimal(0)),
        "debt_usd": str(debt.liabs if debt else Decimal(0)),
    }


def submit_body(build: AsgardBuild, encoded: list[str], wallet: str) -> dict[str, Any] | None:
    """Return the blob handed back with signed transactions; for a resize the documented update body around it."""
    if isinstance(build.order, OpenLong | CloseLong):
        return build.blob.with_signed(encoded)
    if build.record is None:
        return None  # no row to update: the transaction still works, sent by our own node
    update = build.blob.hint("updateRecordData")
    if not isinstance(update, dict):
        raise VenueRefused("asgard", f"a resize came without updateRecordData: {build.blob!r}")
    body: dict[str, Any] = {
        "protocol": build.order.protocol,
        "walletPubkey": wallet,
        "positionPDA": build.order.position_pda,
        "positionId": int(build.record.id) if build.record.id.isdigit() else build.record.id,
        "tokenATokenMint": build.record.token_a_mint,
        "tokenBTokenMint": build.record.token_b_mint,
        "signedTxs": encoded,
        "updateRecordData": update,
    }
    for name in ("feesMetadata", "swapRouteMetadata", "lendingApyAtUpdate", "borrowingApyAtUpdate"):
        value = build.blob.hint(name)
        if value is not None:
            body[name] = value
    return body
