"""System, Compute Budget and Memo: lamports leave only as capped tips, fees, rent of accounts that stay ours, and wraps."""

from __future__ import annotations

from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from venues.solana.fees import BASE_FEE_LAMPORTS, priority_fee_lamports
from venues.solana.rules.common import (
    COMPUTE_BUDGET,
    EXITS,
    SAVE,
    SYSTEM,
    TOKEN,
    WSOL_MINT,
    Draft,
    Operation,
    Step,
    key,
)
from venues.solana.rules.token import TOKEN_ACCOUNT_BYTES
from venues.solana.view import Violation

MAX_UNITS = 1_400_000
BUILTIN_UNITS = 3_000
OTHER_UNITS = 200_000
SAVE_OBLIGATION_BYTES = 1300
JITO_TIP_ACCOUNTS = frozenset(
    key(one)
    for one in (
        "96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5",
        "HFqU5x63VTqvQss8hp11i4wVV8bD44PvwucfZ2bU7gRe",
        "Cw8CFyM9FkoMi7K7Crf6HNQqf4uEMzpKw6QNghXLvLkY",
        "ADaUMid9yfUytqMBgopwjb2DTLSokTSzL1zt6iGPaS49",
        "DfXygSm4jCyNCybVYYK6DwvWqjKee8pbDmJGcLWNDXjh",
        "ADuUkR4vqLUMWXxW9gh6D6L8pMSawimctcNZ5pGwDcEt",
        "DttWaMuVvTiduZRnguLF7jNxTgiMBZ1hyAumKUiL2KRL",
        "3AVi9Tg9Uo68tJfuvoKvqKNWKkC5wPdSSdeBnizKZ6jT",
    )
)
_REFUSED = {
    1: ("assign", "Assign hands the account itself to a program"),
    10: ("assign", "AssignWithSeed hands the account itself to a program"),
    8: ("allocate", "Allocate gives the account data, after which it can neither pay nor transfer"),
    9: ("allocate", "AllocateWithSeed gives the account data, after which it can neither pay nor transfer"),
    4: ("durable-nonce", "AdvanceNonceAccount"),
    5: ("durable-nonce", "WithdrawNonceAccount"),
    6: ("durable-nonce", "InitializeNonceAccount"),
    7: ("durable-nonce", "AuthorizeNonceAccount"),
    12: ("durable-nonce", "UpgradeNonceAccount"),
    11: ("system", "TransferWithSeed"),
    13: ("system", "CreateAccountAllowPrefund"),
}


def check_system(step: Step, draft: Draft) -> None:
    """Check an instruction of the System program, by tag. Raises `Violation`."""
    if len(step.data) < 4:
        raise Violation("system", f"instruction {step.index} of the System program has no tag")
    tag = int.from_bytes(step.data[:4], "little")
    if tag in _REFUSED:
        rule, what = _REFUSED[tag]
        raise Violation(rule, f"instruction {step.index} is System {tag}: {what}")
    if tag == 0:
        _create(step, draft)
    elif tag == 3:
        _create_with_seed(step, draft)
    elif tag == 2:
        _transfer(step, draft)
    else:
        raise Violation(
            "system", f"instruction {step.index} of the System program has tag {tag}, which is not allowed"
        )


def _transfer(step: Step, draft: Draft) -> None:
    if len(step.data) != 12 or len(step.accounts) != 2:
        raise Violation("system", f"instruction {step.index} is a transfer of an odd shape")
    source, to, lamports = step.account(0), step.account(1), step.u64(4)
    if source != draft.wallet:
        raise Violation("system", f"a transfer from {source}, which is not our wallet")
    if to in JITO_TIP_ACCOUNTS:
        draft.tip_lamports += lamports
        allowed = max(draft.rules.tip_cap_lamports, draft.expectation.tip_lamports)
        if draft.tip_lamports > allowed:
            raise Violation("tip-cap", f"tips of {draft.tip_lamports} lamports, the cap is {allowed}")
    elif to == get_associated_token_address(draft.wallet, WSOL_MINT):
        draft.wrapped_lamports += lamports
        if draft.wrapped_lamports > draft.expectation.wrap_lamports:
            allowed = draft.expectation.wrap_lamports
            raise Violation(
                "wrap", f"{draft.wrapped_lamports} lamports would be wrapped, asked for {allowed}"
            )
    elif draft.expectation.op is Operation.WITHDRAW and to == draft.rules.withdrawal:
        draft.sent_lamports += lamports
    else:
        raise Violation("transfer-destination", f"{lamports} lamports would go to {to}")


def _paid(draft: Draft, size: int, lamports: int) -> None:
    if size not in draft.view.rents:
        raise Violation("chain-view", f"the rent of {size} bytes was not read from the chain")
    limit = draft.view.rents[size] + draft.rules.new_account_margin_lamports
    draft.rent_lamports += lamports
    if lamports > limit:
        raise Violation(
            "rent", f"{lamports} lamports for a new account of {size} bytes, the limit is {limit}"
        )
    if draft.rent_lamports > draft.rules.rent_cap_lamports:
        cap = draft.rules.rent_cap_lamports
        raise Violation("rent", f"{draft.rent_lamports} lamports for new accounts, the cap is {cap}")


def _fresh(draft: Draft, account: Pubkey) -> None:
    if draft.view.account(account) is not None or account in draft.made:
        raise Violation("new-account", f"{account} is created, but it exists already")


def _create(step: Step, draft: Draft) -> None:
    """A token account under a key made for this transaction, which must then be initialized for the wallet."""
    if len(step.data) != 52 or len(step.accounts) != 2:
        raise Violation("system", f"instruction {step.index} is a CreateAccount of an odd shape")
    payer, account = step.account(0), step.account(1)
    lamports, size = step.u64(4), step.u64(12)
    owner = Pubkey.from_bytes(step.data[20:52])
    if payer != draft.wallet or account == draft.wallet or account not in step.keys.signers:
        raise Violation("new-account", f"{account} is created at the expense of {payer}")
    if owner != TOKEN or size != TOKEN_ACCOUNT_BYTES:
        raise Violation("new-account", f"{account} is created with {size} bytes for program {owner}")
    _fresh(draft, account)
    _paid(draft, size, lamports)
    draft.made[account] = owner


def _create_with_seed(step: Step, draft: Draft) -> None:
    """Save's obligation: an address derived from the wallet itself and owned by Save."""
    payer, account, data = step.account(0), step.account(1), step.data
    base = Pubkey.from_bytes(data[4:36]) if len(data) >= 36 else SYSTEM
    length = step.u64(36)
    if payer != draft.wallet or base != draft.wallet or length > 32 or len(data) != 44 + length + 48:
        raise Violation("new-account", f"{account} is created with a seed, not from our wallet")
    try:
        seed = data[44 : 44 + length].decode()
    except UnicodeDecodeError:
        raise Violation("new-account", f"{account} is created with a seed that is no text") from None
    lamports, size = step.u64(44 + length), step.u64(52 + length)
    owner = Pubkey.from_bytes(data[60 + length :])
    if owner != SAVE or draft.expectation.lender != SAVE or draft.expectation.op is not Operation.OPEN:
        raise Violation("new-account", f"{account} is created for program {owner}")
    if size != SAVE_OBLIGATION_BYTES or account != Pubkey.create_with_seed(base, seed, owner):
        raise Violation("new-account", f"{account} is not an obligation derived from our wallet")
    _fresh(draft, account)
    _paid(draft, size, lamports)
    draft.made[account] = owner


def check_budget(step: Step, draft: Draft) -> None:
    """Check the Compute Budget: each of the four at most once, in its exact shape; the cost is summed at the end."""
    lengths = {1: 5, 2: 5, 3: 9, 4: 5}
    tag = step.data[0] if step.data else -1
    if tag not in lengths or len(step.data) != lengths[tag]:
        raise Violation(
            "compute-budget", f"instruction {step.index} has tag {tag} and {len(step.data)} bytes"
        )
    if tag in draft.budget_tags:
        raise Violation("compute-budget", f"instruction {step.index} repeats tag {tag}")
    draft.budget_tags[tag] = int.from_bytes(step.data[1:], "little")


def add_fee(draft: Draft, signatures: int, steps: list[Step]) -> None:
    """Add the fee of the transaction at hand to the build's. Raises `Violation` above the cap."""
    default = sum(BUILTIN_UNITS if one.program in (SYSTEM, COMPUTE_BUDGET) else OTHER_UNITS for one in steps)
    units = min(draft.budget_tags.get(2, default), MAX_UNITS)
    draft.fee_lamports += BASE_FEE_LAMPORTS * signatures
    draft.fee_lamports += priority_fee_lamports(draft.budget_tags.get(3, 0), units)
    exiting = draft.expectation.op in EXITS
    cap = draft.rules.exit_fee_cap_lamports if exiting else draft.rules.fee_cap_lamports
    if draft.fee_lamports > cap:
        raise Violation("fee-cap", f"fees of {draft.fee_lamports} lamports, the cap is {cap}")
