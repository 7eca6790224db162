"""A Solana chain on LiteSVM: blockhash window, landing, losing and delaying of transactions, accounts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.rent import Rent
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from twins.faults import FaultPlan
from twins.keys import KeySource
from twins.solana import tokens, wire
from twins.solana.accounts import ChainAccounts
from twins.solana.blocks import BLOCKHASH_AGE, Blocks
from twins.solana.controls import Controls
from twins.solana.errors import (
    MIN_CONTEXT_SLOT_NOT_REACHED,
    NODE_UNHEALTHY,
    PREFLIGHT_FAILURE,
    SIGNATURE_VERIFICATION_FAILURE,
    RpcError,
    TransactionErr,
    worded,
)
from twins.solana.execution import Execution, Executor
from twins.solana.keys import Unresolvable, instructions_of, price_micro_lamports, resolve_keys
from twins.solana.ledger import AccountHistory, LandedTransaction, Ledger, TokenBalance
from twins.solana.mempool import SEND, VENUE, Congestion, Mempool, Prices
from twins.solana.programs import EmulatedCall, EmulatedEffect, ProgramError, Programs
from twins.world import World

FAUCET_LAMPORTS = 10**17
HISTORY = 1_000_000
LAMPORTS_PER_BYTE = 6_333
"""Rent after the first of its five announced cuts; a client that asks the node never notices."""
HEALTHY_SLOTS = 128
"""A node further behind than this calls itself unhealthy."""


@dataclass(frozen=True)
class SimulationResult:
    """What a transaction would do. `accounts` are the states asked for, afterwards."""

    execution: Execution
    slot: int
    accounts: tuple[Account | None, ...] | None = None
    replacement: tuple[Hash, int] | None = None

    @property
    def err(self) -> TransactionErr | None:
        return self.execution.err

    @property
    def logs(self) -> tuple[str, ...]:
        return self.execution.logs

    @property
    def units_consumed(self) -> int:
        return self.execution.units_consumed

    @property
    def fee_lamports(self) -> int:
        return self.execution.fee_lamports


class SolanaChain(ChainAccounts):
    """One node and its chain. Amounts are lamports and base units; times are world milliseconds.

    Readers at `confirmed` and `finalized` see accounts as they were that many blocks ago.
    """

    def __init__(
        self, world: World, faults: FaultPlan, block_ms: int = 250, keys: KeySource | None = None
    ) -> None:
        self.world = world
        self.faults = faults
        self.svm = LiteSVM()
        self.svm.with_transaction_history(HISTORY)
        self.svm.with_blockhash_check(False)
        self.svm.set_rent(Rent(LAMPORTS_PER_BYTE))
        self.ledger = Ledger()
        self.history = AccountHistory()
        self.lock = threading.RLock()
        self.worked_out = {}
        self.before_reading = lambda: None
        self.blocks = Blocks(self.svm, world.now_ms(), block_ms)
        self.prices = Prices()
        self.socket_mode = "normal"
        self.congested: dict[Pubkey, Congestion] = {}
        self.mempool = Mempool(faults, self.blocks)
        self.keys = keys or KeySource()
        self.faucet = self.keys.keypair()
        self._programs = Programs(self.svm)
        self._executor = Executor(self.svm, self._programs)
        self._controls = Controls(self)
        self.ensure_mint(tokens.NATIVE_MINT, 9)
        self.airdrop(self.faucet.pubkey(), FAUCET_LAMPORTS)

    # Blocks

    def catch_up(self) -> None:
        """Produce the blocks due by world time; transactions on their way land in the block they wait for."""
        with self.lock:
            now_ms = self.world.now_ms()
            self.blocks.note_minutes(now_ms)
            target = self.blocks.target(now_ms)
            while due := self.mempool.due(target):
                self.blocks.produce(max(due.height, self.blocks.tip), self.blocks.time_of(due.height))
                self._land(due.raw, due.transaction)
            self.blocks.produce(target, now_ms)

    def slot(self, commitment: str = "processed") -> int:
        self.catch_up()
        return self.blocks.slot(commitment)

    def height(self, commitment: str = "processed") -> int:
        self.catch_up()
        return self.blocks.height(commitment)

    def latest_blockhash(self, commitment: str = "processed") -> tuple[Hash, int]:
        """Return (blockhash, lastValidBlockHeight)."""
        self.catch_up()
        return self.blocks.blockhash(commitment)

    def require_slot(self, commitment: str, min_context_slot: int | None) -> int:
        """Return the slot that an answer at this commitment stands for; -32016 if it is below `min_context_slot`."""
        slot = self.slot(commitment)
        if min_context_slot is not None and slot < min_context_slot:
            message = "Minimum context slot has not been reached"
            raise RpcError(MIN_CONTEXT_SLOT_NOT_REACHED, message, {"contextSlot": slot})
        return slot

    def require_health(self) -> None:
        behind = self.blocks.slot_of(self.blocks.tip) - self.blocks.slot()
        if behind > HEALTHY_SLOTS:
            raise RpcError(NODE_UNHEALTHY, f"Node is behind by {behind} slots", {"numSlotsBehind": behind})

    # Transactions

    def submit(
        self,
        raw: bytes,
        *,
        skip_preflight: bool = False,
        max_retries: int | None = None,
        preflight_commitment: str = "processed",
        min_context_slot: int | None = None,
    ) -> Signature:
        """Accept a signed transaction and answer its signature, whether or not it will land.

        It lands at once in the present block, unless a fault or a halt says otherwise. Raises `RpcError` for
        what a node refuses: undecodable or too large bytes; with preflight, bad signatures and a failing
        simulation.
        """
        with self.lock:
            self.catch_up()
            if self.faults.take(VENUE, "expire_blockhash", SEND):
                self.blocks.add(BLOCKHASH_AGE + 1, self.world.now_ms())
            tx = wire.decode(raw)
            commitment = "processed" if skip_preflight else preflight_commitment
            self.require_slot(commitment, min_context_slot)
            if not skip_preflight:
                self._require_signatures(tx)
                self.require_health()
                found = self._simulated(tx, commitment)
                if found.err is not None:
                    message = f"Transaction simulation failed: {worded(found.err)}"
                    raise RpcError(PREFLIGHT_FAILURE, message, wire.preflight_data(found.execution))
            if self.mempool.lands_now(raw, tx, max_retries):
                self._land(raw, tx)
            return tx.signatures[0]

    def simulate(
        self,
        raw: bytes,
        *,
        sig_verify: bool = False,
        replace_blockhash: bool = False,
        accounts: Sequence[Pubkey] = (),
        commitment: str = "processed",
    ) -> SimulationResult:
        """Execute without effect; unsigned bytes will do unless `sig_verify`. Raises `RpcError`."""
        with self.lock:
            self.catch_up()
            tx = wire.decode(raw)
            replacement = None
            if replace_blockhash:
                replacement = self.blocks.blockhash(commitment)
                tx = wire.with_blockhash(tx, replacement[0])
            elif sig_verify:
                self._require_signatures(tx)
            found = self._simulated(tx, commitment)
            states = tuple(found.execution.after.get(key, self.svm.get_account(key)) for key in accounts)
            return SimulationResult(found.execution, found.slot, states if accounts else None, replacement)

    def transaction(self, signature: Signature) -> LandedTransaction | None:
        self.catch_up()
        return self.ledger.get(signature)

    @staticmethod
    def _require_signatures(tx: VersionedTransaction) -> None:
        if not all(tx.verify_with_results()):
            raise RpcError(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")

    def _simulated(self, tx: VersionedTransaction, commitment: str) -> SimulationResult:
        nonce = self._validity(tx, self.blocks.height(commitment))
        slot = self.blocks.slot(commitment)
        if nonce is None:
            return SimulationResult(wire.not_run(tx, "BlockhashNotFound"), slot)
        known = self.ledger.landed(tx)
        if known is not None:
            # A bank older than the block it landed in has not seen it and would find it good.
            err = "AlreadyProcessed" if known.slot <= slot else None
            return SimulationResult(wire.not_run(tx, err), slot)
        return SimulationResult(self._executor.dry_run(tx, self.world.now_ms(), nonce), slot)

    def _validity(self, tx: VersionedTransaction, height: int) -> bool | None:
        """False: valid by its blockhash; True: valid by its durable nonce; None: not valid."""
        if self.blocks.accepts(tx.message.recent_blockhash, height):
            return False
        return True if self._executor.nonce_of(tx) is not None else None

    def _land(self, raw: bytes, tx: VersionedTransaction) -> None:
        """The leader's side: what is invalid or known already vanishes without an answer."""
        if self.ledger.landed(tx) is not None or not all(tx.verify_with_results()):
            return
        height = self.blocks.tip
        nonce = self._validity(tx, height)
        if nonce is None:
            return
        if self._outbid(tx):
            self.mempool.wait(height + 1, raw, tx)
            return
        now_ms = min(self.world.now_ms(), self.blocks.time_of(height))
        forced = None
        if self._executor.touches_emulated(tx):
            fault = self.faults.take(VENUE, "fail_transaction", SEND)
            forced = ProgramError(int(fault.args.get("custom", 6001)), "forced failure") if fault else None
        done = self._executor.run(tx, now_ms, nonce, forced)
        if not done.processed:
            return
        slot = self.blocks.slot_of(height)
        self.blocks.keep(height)
        for key, before in done.changed().items():
            self.history.changed(slot, key, before)
        every = done.keys.all
        tokens_before, tokens_after = self.token_rows(done)
        landed = LandedTransaction(
            signature=tx.signatures[0],
            raw=raw,
            transaction=tx,
            slot=slot,
            height=height,
            time_ms=now_ms,
            err=done.err,
            fee_lamports=done.fee_lamports,
            logs=done.logs,
            units_consumed=done.units_consumed,
            keys=done.keys,
            pre_balances=wire.lamports(every, done.before),
            post_balances=wire.lamports(every, done.after),
            pre_token_balances=tokens_before,
            post_token_balances=tokens_after,
            inner_instructions=done.inner,
            return_data=done.return_data,
            price_micro_lamports=price_micro_lamports(instructions_of(tx, done.keys)),
            position_in_block=sum(1 for _ in self.ledger.since(slot)),
        )
        self.ledger.add(landed)
        for commit in done.on_commit:
            commit(landed)

    def _outbid(self, tx: VersionedTransaction) -> bool:
        """Whether an account that it writes to is taken by others who pay more."""
        if not any(one.binding for one in self.congested.values()):
            return False
        try:
            keys = resolve_keys(self.svm, tx)
        except Unresolvable:
            return False
        paid = price_micro_lamports(instructions_of(tx, keys))
        taken = (self.congested.get(key) for key in keys.writable)
        return any(one is not None and one.binding and one.micro_lamports > paid for one in taken)

    def token_rows(self, done: Execution) -> tuple[tuple[TokenBalance, ...], tuple[TokenBalance, ...]]:
        """Return the token accounts of a transaction, before and after it."""

        def rows(accounts: dict[Pubkey, Account | None]) -> tuple[TokenBalance, ...]:
            def lookup(key: Pubkey) -> Account | None:
                return accounts[key] if key in accounts else self.svm.get_account(key)

            return tokens.token_balances(done.keys.all, lookup)

        return rows(done.before), rows(done.after)

    # Programs

    def add_noop_program(self, program_id: Pubkey) -> None:
        self._programs.add_noop(program_id)

    def emulate(self, program_id: Pubkey, handler: Callable[[EmulatedCall], EmulatedEffect]) -> None:
        self._programs.emulate(program_id, handler)

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's command; see `controls.Controls`. Raises ValueError for an unknown one."""
        with self.lock:
            self.catch_up()
            return self._controls.run(op, body)
