"""Takes signed builds back, broadcasts them, and writes the database rows; the chain alone decides what
happened.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from dataclasses import dataclass
from typing import Any

from solders.message import to_bytes_versioned
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from twins.asgard.book import LendingBook, decimal
from twins.asgard.describe import Build
from twins.asgard.emulation import Emulation
from twins.asgard.plans import leverage
from twins.asgard.records import Database, Execution, PositionRow, Side, UpdateRow, text
from twins.asgard.wire import ApiError, UpdateSubmitBody, parse, refuse
from twins.faults import FaultPlan
from twins.solana.chain import SolanaChain
from twins.solana.errors import RpcError
from twins.world import World

VENUE = "asgard"
LANDING_WAIT_MS = 5_000
WALL_WAIT_S = 2.0
STEP_MS = 100
SLIPPAGE_BREAK_BPS = 10_000


@dataclass
class SubmitMode:
    """How submits behave where the vendor's behaviour is unknown, and how late executed prices show."""

    duplicate_is_error: bool = False
    metadata_delay_ms: int = 8_000


@dataclass
class _Waiting:
    """A broadcast build whose landing the submit did not see; its row is written when it lands."""

    build: Build
    signatures: list[str]
    position_id: int | None


class Submissions:
    """All builds given out, and what came back signed."""

    def __init__(
        self,
        world: World,
        chain: SolanaChain,
        book: LendingBook,
        emulation: Emulation,
        database: Database,
        faults: FaultPlan,
    ) -> None:
        self._world = world
        self._chain = chain
        self._book = book
        self._emulation = emulation
        self._database = database
        self._faults = faults
        self._builds: dict[bytes, Build] = {}
        self._waiting: list[_Waiting] = []
        self.mode = SubmitMode()

    def remember(self, build: Build) -> None:
        self._builds[_digest(build.assembled.messages)] = build

    async def create_or_close(self, kind: str, call: str, body: Any) -> dict[str, Any]:
        """Take a submit. `kind` is "open" or "close"; the body is the build's own object with `signedTxs` replaced."""
        if not isinstance(body, dict):
            raise refuse("ValidationError", "body: a JSON object is needed")
        build, transactions = self._recognise(body.get("signedTxs"))
        if build.plan.kind != kind or build.update_type is not None:
            raise refuse(
                "BuildMismatch", f"these transactions were built for {build.plan.kind}, not for {kind}"
            )
        echoed = {key: value for key, value in body.items() if key != "signedTxs"}
        sent = {key: value for key, value in build.response.items() if key != "signedTxs"}
        if echoed != sent:
            odd = sorted(key for key in echoed.keys() | sent.keys() if echoed.get(key) != sent.get(key))
            raise refuse(
                "BuildMismatch", f"pass back the exact object, only signedTxs may differ: {odd}", keys=odd
            )
        row = self._row_of(str(transactions[-1].signatures[0]))
        if row is None:
            row = await self._broadcast(build, transactions, call, None)
        elif self.mode.duplicate_is_error:
            raise refuse("DuplicateSubmission", "these transactions were submitted before")
        record = row.record(self._world.now_ms(), self.mode.metadata_delay_ms)
        if kind == "open":
            return record
        return record | {
            "txHash": str(transactions[-1].signatures[0]),
            "txMetadata": record["exitMarketMetadata"],
        }

    async def update(self, call: str, body: Any) -> dict[str, Any]:
        request = parse(UpdateSubmitBody, body)
        build, transactions = self._recognise(request.signedTxs)
        if build.update_type is None:
            raise refuse(
                "BuildMismatch", f"these transactions were built for {build.plan.kind}, not for an update"
            )
        if request.updateRecordData != build.response["updateRecordData"]:
            raise refuse("BuildMismatch", "updateRecordData is not the one of the build")
        row = self._database.by_pda(request.positionPDA)
        if row is None or row.pda != build.plan.pda or str(row.id) != str(request.positionId):
            raise refuse(
                "PositionNotFound", f"no record {request.positionId} of position {request.positionPDA}"
            )
        if row.owner != request.walletPubkey or row.market.protocol.id != request.protocol:
            raise refuse("BuildMismatch", "wallet or protocol differ from the position's")
        signature = str(transactions[-1].signatures[0])
        found = self._database.updates.get(signature)
        if found is not None and self.mode.duplicate_is_error:
            raise refuse("DuplicateSubmission", "these transactions were submitted before")
        if found is None:
            await self._broadcast(build, transactions, call, row.id)
            found = self._database.updates.get(signature) or self._update_row(build, signature, row)
        return found.answer(row.market, self._world.now_ms(), self.mode.metadata_delay_ms)

    def catch_up(self) -> None:
        """Write the rows of builds that landed after their submit had given up waiting."""
        for waiting in list(self._waiting):
            landed = [self._landed(signature) for signature in waiting.signatures]
            idle = waiting.signatures[-1] in self._emulation.without_effect
            if any(one is False for one in landed) or (idle and all(landed)):
                self._waiting.remove(waiting)
            elif all(landed):
                self._waiting.remove(waiting)
                self._write(waiting.build, waiting.signatures, waiting.position_id)

    # Recognising

    def _recognise(self, encoded: Any) -> tuple[Build, list[VersionedTransaction]]:
        if not isinstance(encoded, list) or not encoded or not all(isinstance(one, str) for one in encoded):
            raise refuse("ValidationError", "signedTxs: a list of base64 transactions is needed")
        transactions = []
        for number, one in enumerate(encoded):
            try:
                raw = base64.b64decode(one, validate=True)
                transaction = VersionedTransaction.from_bytes(raw)
            except (binascii.Error, ValueError) as error:
                raise refuse("ValidationError", f"signedTxs[{number}] is not a base64 transaction") from error
            if bytes(transaction) != raw or not all(transaction.verify_with_results()):
                raise refuse("SignatureVerificationFailed", f"signedTxs[{number}] is not fully signed")
            transactions.append(transaction)
        build = self._builds.get(_digest([to_bytes_versioned(one.message) for one in transactions]))
        if build is None:
            raise refuse(
                "BuildMismatch", "these transactions were not built here, or not all of them are here"
            )
        return build, transactions

    def _row_of(self, signature: str) -> PositionRow | None:
        """The row that this transaction opened or closed."""
        for row in self._database.positions:
            sides = (row.opened, row.closed)
            if any(side is not None and side.execution.signature == signature for side in sides):
                return row
        return None

    # Broadcasting

    async def _broadcast(
        self, build: Build, transactions: list[VersionedTransaction], call: str, position_id: int | None
    ) -> PositionRow:
        signatures = [str(one.signatures[0]) for one in transactions]
        lost = self._faults.take(VENUE, "submit_lost", call)
        if lost is not None:
            if int(lost.args.get("status", 500)) >= 500:
                raise ApiError(500, "InternalServerError", "could not submit")
            return self._claimed(build, signatures[-1], position_id)
        worse = self._faults.take(VENUE, "bad_price", call)
        if worse is not None:
            self._emulation.worse_bps[signatures[-1]] = decimal(float(worse.args.get("bps", 50)))
        if self._faults.take(VENUE, "no_effect", call) is not None:
            self._emulation.without_effect.update(signatures)
        breaks = self._faults.take(VENUE, "slippage_fail", call) is not None
        unrecorded = self._faults.take(VENUE, "submit_no_row", call)
        waiting = _Waiting(build, signatures, position_id)
        for transaction, signature in zip(transactions, signatures, strict=True):
            is_last = transaction is transactions[-1]
            if is_last and breaks:
                # The market moves between the preflight and the block.
                self._emulation.worse_bps[signature] = decimal(SLIPPAGE_BREAK_BPS)
            self._send(transaction, skip_preflight=is_last and breaks)
            if not await self._wait(signature):
                if unrecorded is None:
                    self._waiting.append(waiting)
                raise ApiError(500, "ConfirmationTimeout", f"{signature} was sent but is not confirmed yet")
        if signatures[-1] in self._emulation.without_effect:
            raise ApiError(500, "DatabaseError", "could not record the position")
        if unrecorded is not None:
            if int(unrecorded.args.get("status", 500)) >= 500:
                raise ApiError(500, "DatabaseError", "could not record the position")
            return self._claimed(build, signatures[-1], position_id)
        return self._write(build, signatures, position_id)

    def _send(self, transaction: VersionedTransaction, skip_preflight: bool) -> None:
        try:
            self._chain.submit(bytes(transaction), skip_preflight=skip_preflight)
        except RpcError as error:
            known = isinstance(error.data, dict) and error.data.get("err") == "AlreadyProcessed"
            if known or self._chain.transaction(transaction.signatures[0]) is not None:
                return
            details = {"rpcCode": error.code, "data": error.data}
            if error.code in (-32002, -32003):
                raise refuse("TransactionSimulationFailed", error.message, **details) from error
            raise ApiError(500, "RpcError", error.message, details) from error

    async def _wait(self, signature: str) -> bool:
        """Whether it landed within the waiting time. ApiError 422 if it landed and failed."""
        until_ms, until_wall = self._world.now_ms() + LANDING_WAIT_MS, time.monotonic() + WALL_WAIT_S
        while True:
            landed = self._landed(signature)
            if landed is False:
                raise refuse("TransactionFailed", f"{signature} landed and failed", txHash=signature)
            if landed:
                return True
            if self._world.now_ms() >= until_ms or time.monotonic() >= until_wall:
                return False
            if self._world.clock.stepped:
                self._world.clock.advance_to(self._world.now_ms() + STEP_MS)
            await asyncio.sleep(0.01)

    def _landed(self, signature: str) -> bool | None:
        """True landed, False landed and failed, None not seen."""
        found = self._chain.transaction(_signature(signature))
        return None if found is None else found.err is None

    # Rows

    def _execution(self, build: Build, signature: str) -> Execution:
        holding = self._book.holdings[build.plan.pda]
        return next(one for one in holding.executions if one.signature == signature)

    def _side(self, build: Build, signatures: list[str]) -> Side:
        earlier = [self._chain.transaction(_signature(one)) for one in signatures[:-1]]
        gas = sum(one.fee_lamports for one in earlier if one is not None)
        return Side(self._execution(build, signatures[-1]), build.estimate, gas, 0)

    def _write(self, build: Build, signatures: list[str], position_id: int | None) -> PositionRow:
        """The row of what landed. Two submits of the same bytes at once write it once."""
        if build.plan.hollow:
            return self._claimed(
                build, signatures[-1], position_id
            )  # nothing happened that a row could record
        side = self._side(build, signatures)
        row = self._row_of(signatures[-1])
        if row is not None:
            return row
        row = self._database.by_pda(build.plan.pda)
        if build.plan.kind == "open":
            row = self._new_row(build, side)
            self._database.positions.append(row)
        elif row is None:
            # A position that was never recorded is recorded when it is closed.
            opened = Side(self._book.holdings[build.plan.pda].executions[0], build.estimate, 0, 0)
            row = self._new_row(build, opened)
            self._database.positions.append(row)
        if build.plan.closes:
            row.closed = side
        elif position_id is not None and signatures[-1] not in self._database.updates:
            update = self._update_row(build, signatures[-1], row, side)
            self._database.updates[signatures[-1]] = update
            row.update_count += 1
            row.last_update_id = update.id
            row.current = {
                key: value for key, value in update.position_view.items() if key.endswith("Current")
            }
        return row

    def _new_row(self, build: Build, opened: Side) -> PositionRow:
        plan = build.plan
        number = len(self._database.positions) + 1
        return PositionRow(number, str(plan.wallet), plan.pda, plan.market, build.requested_leverage, opened)

    def _update_row(
        self, build: Build, signature: str, row: PositionRow, side: Side | None = None
    ) -> UpdateRow:
        """The row of an update; without `side`, what is claimed of one that was never recorded."""
        if side is None:
            preview = build.preview.execution(signature, 0, self._world.now_ms(), 0, 0)
            side = Side(preview, build.estimate, 0, 0)
        done = side.execution
        price = self._book.oracle_price(row.market, done.time_ms)
        view = {
            "id": row.id,
            "tokenAAmountUICurrent": text(done.tokens_after),
            "tokenBAmountUICurrent": text(done.debt_after_usd, 6),
            "leverageCurrent": text(leverage(done.tokens_after, done.debt_after_usd, price), 6),
            "updateCount": row.update_count + 1,
        }
        return UpdateRow(len(self._database.updates) + 1, row.id, build.update_type or 0, side, view)

    def _claimed(self, build: Build, signature: str, position_id: int | None) -> PositionRow:
        """A row that is answered but kept nowhere."""
        known = (
            self._database.by_pda(build.plan.pda) if position_id is not None or build.plan.closes else None
        )
        side = Side(build.preview.execution(signature, 0, self._world.now_ms(), 0, 0), build.estimate, 0, 0)
        row = PositionRow(
            known.id if known else len(self._database.positions) + 1,
            str(build.plan.wallet),
            build.plan.pda,
            build.plan.market,
            build.requested_leverage,
            known.opened if known else side,
        )
        if build.plan.closes:
            row.closed = side
        return row


def _digest(messages: list[bytes]) -> bytes:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(len(message).to_bytes(4, "little") + message)
    return digest.digest()


def _signature(value: str) -> Signature:
    return Signature.from_string(value)
