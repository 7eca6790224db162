"""Runs one transaction on the SVM with the effects of the emulated programs in it, all or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from solders.account import Account
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, InnerInstruction, TransactionMetadata

from twins.solana import tokens
from twins.solana.errors import TransactionErr, failed_index, instruction_error
from twins.solana.keys import Unresolvable, instructions_of, resolve_keys
from twins.solana.ledger import LandedTransaction, ResolvedKeys
from twins.solana.logs import failing_logs, with_program_logs
from twins.solana.programs import AccountRef, EmulatedCall, EmulatedEffect, ProgramError, Programs

INSUFFICIENT_FUNDS = 1
"""Custom code of the Token program when a balance would become negative."""
SYSTEM_PROGRAM = Pubkey.default()
NONCE_BYTES = 80

Accounts = dict[Pubkey, Account | None]


@dataclass(frozen=True)
class Execution:
    """The result of one transaction. `processed` says that it took a place in a block (fee paid)."""

    err: TransactionErr | None
    processed: bool
    fee_lamports: int
    logs: tuple[str, ...]
    units_consumed: int
    keys: ResolvedKeys
    before: Accounts
    after: Accounts
    overrides: Accounts
    """Accounts to set once the SVM has run: what the SVM itself does not do."""
    inner: tuple[tuple[InnerInstruction, ...], ...] = ()
    return_data: tuple[Pubkey, bytes] | None = None
    on_commit: tuple[Callable[[LandedTransaction], None], ...] = ()
    failing_program: tuple[Pubkey, int] | None = None

    def changed(self) -> Accounts:
        """Return the accounts that this transaction changed, as they were before."""
        return {key: was for key, was in self.before.items() if self.after.get(key) != was}


class Executor:
    """The SVM and the emulated programs as one machine."""

    def __init__(self, svm: LiteSVM, programs: Programs) -> None:
        self._svm = svm
        self._programs = programs

    def dry_run(
        self, tx: VersionedTransaction, now_ms: int, nonce: bool = False, forced: ProgramError | None = None
    ) -> Execution:
        """Return what `run` would do, without doing it. Signatures are not looked at.

        `nonce`: it is valid by its durable nonce. `forced`: the first emulated instruction fails with this.
        """
        svm = self._svm
        try:
            keys = resolve_keys(svm, tx)
        except Unresolvable as problem:
            return _refused(problem.args[0], ResolvedKeys(tuple(tx.message.account_keys)), {})
        before: Accounts = {key: svm.get_account(key) for key in keys.all}
        svm.with_sigverify(False)
        try:
            result = svm.simulate_transaction(tx)
        finally:
            svm.with_sigverify(True)
        err, meta = _outcome(result)
        executed = bool(meta.logs()) or meta.compute_units_consumed() > 0
        if err is not None and not (isinstance(err, dict) and executed):
            return _refused(err, keys, before)
        program_ids = [keys.all[compiled.program_id_index] for compiled in tx.message.instructions]
        effects, failure = self._handled(tx, keys, now_ms, failed_index(err), forced)
        run = Execution(
            err=err,
            processed=True,
            fee_lamports=meta.fee(),
            logs=tuple(meta.logs()),
            units_consumed=meta.compute_units_consumed(),
            keys=keys,
            before=before,
            after=before,
            overrides={},
            inner=_inner(meta),
            return_data=_return_data(meta),
        )
        if failure is None and err is None and not isinstance(result, FailedTransactionMetadata):
            after = {**before, **{key: _alive(account) for key, account in result.post_accounts()}}
            overrides, short = self._effects(effects, after, before)
            if short is None:
                said = {index: effect.logs for index, effect in effects}
                return replace(
                    run,
                    after={**after, **overrides},
                    overrides=overrides,
                    logs=with_program_logs(run.logs, program_ids, said),
                    on_commit=tuple(effect.on_commit for _, effect in effects if effect.on_commit),
                )
            failure = (short, ProgramError(INSUFFICIENT_FUNDS, "Error: insufficient funds"))
        overrides = self._advanced_nonce(tx, keys, before) if nonce else {}
        run = replace(
            run,
            after=_after_failure(keys, before, meta.fee(), overrides),
            overrides=overrides,
            return_data=None,
        )
        if failure is None:
            return run
        index, refusal = failure
        return replace(
            run,
            err=instruction_error(index, refusal.code),
            logs=failing_logs(run.logs, program_ids, index, refusal),
            inner=run.inner[: index + 1],
            failing_program=(program_ids[index], refusal.code),
        )

    def run(
        self, tx: VersionedTransaction, now_ms: int, nonce: bool = False, forced: ProgramError | None = None
    ) -> Execution:
        """Execute for real. What is not `processed` left no trace, as when a leader drops it."""
        planned = self.dry_run(tx, now_ms, nonce, forced)
        if not planned.processed:
            return planned
        if planned.failing_program:
            program_id, code = planned.failing_program
            self._programs.make_fail(program_id, code)
            try:
                result = self._svm.send_transaction(tx)
            finally:
                self._programs.restore(program_id)
        else:
            result = self._svm.send_transaction(tx)
        if self._svm.get_transaction(tx.signatures[0]) is None:
            return _refused(_outcome(result)[0] or "AlreadyProcessed", planned.keys, planned.before)
        for key, account in planned.overrides.items():
            self._svm.set_account(key, account or Account.default())
        return planned

    def _handled(
        self,
        tx: VersionedTransaction,
        keys: ResolvedKeys,
        now_ms: int,
        stop_at: int | None,
        forced: ProgramError | None,
    ) -> tuple[list[tuple[int, EmulatedEffect]], tuple[int, ProgramError] | None]:
        """Effects of the emulated instructions in front of `stop_at`, up to the first that refuses."""
        instructions = instructions_of(tx, keys)
        effects: list[tuple[int, EmulatedEffect]] = []
        for index, instruction in enumerate(instructions[:stop_at]):
            handler = self._programs.handler(instruction.program_id)
            if handler is None:
                continue
            refs = tuple(
                AccountRef(meta.pubkey, meta.is_signer, meta.is_writable) for meta in instruction.accounts
            )
            call = EmulatedCall(
                program_id=instruction.program_id,
                data=bytes(instruction.data),
                accounts=refs,
                fee_payer=keys.static[0],
                signature=tx.signatures[0],
                now_ms=now_ms,
                instructions=instructions,
                index=index,
            )
            try:
                if forced is not None:
                    raise forced
                effects.append((index, handler(call)))
            except ProgramError as problem:
                return effects, (index, problem)
        return effects, None

    def _effects(
        self, effects: list[tuple[int, EmulatedEffect]], after: Accounts, before: Accounts
    ) -> tuple[Accounts, int | None]:
        """Accounts as the effects leave them, on top of `after`; or the instruction that would overdraw one.

        Accounts that the transaction does not name are added to `before`.
        """
        changed: Accounts = {}

        def present(key: Pubkey) -> Account | None:
            if key in changed:
                return changed[key]
            if key not in after:
                before[key] = after[key] = self._svm.get_account(key)
            return after[key]

        for index, effect in effects:
            for key, account in effect.accounts.items():
                present(key)
                changed[key] = _alive(account)
            for owner, mint, delta in effect.token_deltas:
                key = tokens.ata(owner, mint)
                now = present(key)
                held = tokens.read_token(now).amount if now and tokens.is_token_account(now) else 0
                if held + delta < 0:
                    return {}, index
                changed[key] = tokens.with_amount(self._svm, now, owner, mint, held + delta)
            for key, delta in effect.lamport_deltas:
                now = present(key) or Account.default()
                if now.lamports + delta < 0:
                    return {}, index
                changed[key] = _with_lamports(now, now.lamports + delta)
        return changed, None

    def touches_emulated(self, tx: VersionedTransaction) -> bool:
        keys = tx.message.account_keys
        programs = (keys[step.program_id_index] for step in tx.message.instructions)
        return any(self._programs.handler(program) is not None for program in programs)

    def nonce_of(self, tx: VersionedTransaction) -> Pubkey | None:
        """Return the nonce account, if the transaction starts by advancing one that stores its blockhash."""
        if not tx.uses_durable_nonce():
            return None
        key = tx.message.account_keys[tx.message.instructions[0].accounts[0]]
        account = self._svm.get_account(key)
        if account is None or account.owner != SYSTEM_PROGRAM or len(account.data) != NONCE_BYTES:
            return None
        initialized = bytes(account.data[4:8]) == b"\x01\0\0\0"
        return (
            key if initialized and bytes(account.data[40:72]) == bytes(tx.message.recent_blockhash) else None
        )

    def _advanced_nonce(self, tx: VersionedTransaction, keys: ResolvedKeys, before: Accounts) -> Accounts:
        """A failed transaction advances its nonce all the same; the SVM alone would leave it usable again."""
        key = keys.static[tx.message.instructions[0].accounts[0]]
        account = before[key]
        if account is None:
            return {}
        fresh = hashlib.sha256(b"DURABLE_NONCE" + bytes(self._svm.latest_blockhash())).digest()
        data = bytes(account.data)
        return {key: Account(account.lamports, data[:40] + fresh + data[72:], account.owner)}


def _outcome(result: object) -> tuple[TransactionErr | None, TransactionMetadata]:
    if isinstance(result, FailedTransactionMetadata):
        return json.loads(result.to_json())["err"], result.meta()
    return None, result if isinstance(result, TransactionMetadata) else result.meta()  # type: ignore[attr-defined]


def _inner(meta: TransactionMetadata) -> tuple[tuple[InnerInstruction, ...], ...]:
    return tuple(tuple(group) for group in meta.inner_instructions())


def _return_data(meta: TransactionMetadata) -> tuple[Pubkey, bytes] | None:
    data = meta.return_data()
    return (data.program_id, bytes(data.data)) if data.data else None


def _refused(err: TransactionErr, keys: ResolvedKeys, before: Accounts) -> Execution:
    return Execution(err, False, 0, (), 0, keys, before, before, {})


def _alive(account: Account) -> Account | None:
    """An account without lamports does not exist after its transaction."""
    return account if account.lamports else None


def _with_lamports(account: Account, lamports: int) -> Account:
    return Account(lamports, bytes(account.data), account.owner, account.executable, account.rent_epoch)


def _after_failure(keys: ResolvedKeys, before: Accounts, fee: int, overrides: Accounts) -> Accounts:
    payer = before[keys.static[0]]
    paid = _with_lamports(payer, payer.lamports - fee) if payer else None
    return {**before, keys.static[0]: paid, **overrides}
