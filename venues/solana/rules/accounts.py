"""A transaction as a whole: who signs it, which programs it can reach, and whose accounts it may write to."""

from __future__ import annotations

from collections.abc import Sequence

from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from venues.solana.rules.common import (
    ROUTERS,
    SELLING,
    SYSTEM,
    TOKEN,
    TOKEN_2022,
    Draft,
    Operation,
    Step,
)
from venues.solana.rules.system import JITO_TIP_ACCOUNTS
from venues.solana.rules.token import token_state
from venues.solana.view import Keys, Violation

_TOKEN_2022_TEXT = str(TOKEN_2022)


def check_signers(tx: VersionedTransaction, wallet: Pubkey) -> None:
    """Check that we pay the fee and fill the first slot; every other signature is there already and verifies. Raises
    `Violation`.
    """
    message = tx.message
    static = message.account_keys
    if not static or static[0] != wallet:
        raise Violation(
            "fee-payer", f"the fee payer is {static[0] if static else 'missing'}, not our wallet {wallet}"
        )
    required = message.header.num_required_signatures
    verified = tx.verify_with_results()
    if len(tx.signatures) != required or len(verified) != required:
        raise Violation("signers", f"{len(tx.signatures)} signature slots for {required} signers")
    if tx.signatures[0] != Signature.default() and not verified[0]:
        raise Violation("signers", "our own slot already carries a signature that does not verify")
    for slot in range(1, required):
        if not verified[slot]:
            raise Violation(
                "signers", f"signer {static[slot]} has not signed, and we sign for our wallet only"
            )


def check_extra_signers(keys: Keys, draft: Draft) -> None:
    """Check, after the instructions, that each other signer is an account that this very transaction makes."""
    for signer in keys.every:
        if signer not in keys.signers or signer == draft.wallet:
            continue
        if signer not in draft.made and not (signer == draft.position and draft.position_made):
            raise Violation("signers", f"signer {signer} is not an account made by this transaction")


def check_made(draft: Draft) -> None:
    """Check that a token account that is made is also initialized, or anybody could take it over afterwards."""
    for account, program in draft.made.items():
        if program == TOKEN and account not in draft.temporary:
            raise Violation("new-account", f"{account} is made but not initialized for our wallet")


def check_programs(keys: Keys, steps: Sequence[Step], draft: Draft) -> None:
    """Check what our signature reaches. It flows into every program that a called program calls: none may be reachable
    that is not known, but for what a router calls on the way out, which is noted.

    Exchanges name Token-2022 beside the classic program; it can do nothing with classic accounts, and no account of its own
    may be written to.
    """
    reachable = draft.rules.reachable
    for account in keys.every:
        info = draft.view.account(account)
        if info is None:
            continue
        if info.owner == _TOKEN_2022_TEXT and account in keys.writable:
            raise Violation(
                "token-2022", f"{account} of Token-2022 is written to; our mints are classic SPL tokens"
            )
        if not info.executable or account in reachable:
            continue
        by_routers = all(step.program in ROUTERS for step in steps if account in step.accounts)
        if account == TOKEN_2022:
            if not by_routers:
                raise Violation("token-2022", "Token-2022 is within reach; our mints are classic SPL tokens")
        elif draft.expectation.op in SELLING and by_routers:
            draft.unknown_programs.add(account)
            draft.warnings.append(
                f"a route that may call program {account}, which is not in the table of exchanges"
            )
        else:
            raise Violation("program", f"program {account} could be called and is not on the allowlist")


def check_writable(keys: Keys, draft: Draft) -> None:
    """Check that nothing that a person other than us holds the key of may be written to, tips and pinned accounts
    aside.
    """
    for account in keys.writable:
        if account == draft.wallet or account in draft.made or account in JITO_TIP_ACCOUNTS:
            continue
        if account in draft.fee_receivers or account in draft.rules.fee_accounts:
            continue
        info = draft.view.account(account)
        if info is None or info.owner == str(SYSTEM):
            if account.is_on_curve() and account not in (draft.position, _withdrawal(draft)):
                raise Violation("foreign", f"the build may write to {account}, which is somebody's wallet")
            continue
        state = token_state(info)
        if (
            state is not None
            and state.owner not in (draft.wallet, _withdrawal(draft))
            and state.owner.is_on_curve()
        ):
            raise Violation("foreign", f"the build may write to {account}, a token account of {state.owner}")


def _withdrawal(draft: Draft) -> Pubkey | None:
    return draft.rules.withdrawal if draft.expectation.op is Operation.WITHDRAW else None
