"""Token accounts and the two token programs: tokens stay in accounts that truly are the wallet's."""

from __future__ import annotations

from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from venues.solana.answers import AccountInfo
from venues.solana.rules.common import ATA, SYSTEM, TOKEN, USDC_MINT, WSOL_MINT, Draft, Operation, Step
from venues.solana.view import Violation

TOKEN_ACCOUNT_BYTES = 165
MINT_BYTES = 82
MOST_BETWEEN = 4
"""Tokens that a route may pass through; each costs the rent of an account, which stays ours."""
RULE = "token"
OWNER_RULE = "token-owner"
_REFUSED = {
    0: "InitializeMint",
    2: "InitializeMultisig",
    4: "Approve",
    5: "Revoke",
    6: "SetAuthority",
    7: "MintTo",
    8: "Burn",
    10: "FreezeAccount",
    11: "ThawAccount",
    13: "ApproveChecked",
    14: "MintToChecked",
    15: "BurnChecked",
    38: "WithdrawExcessLamports",
    255: "Batch",
}
_MAX_LENGTHS = {1: 1, 3: 9, 9: 1, 12: 10, 16: 33, 17: 1, 18: 33, 22: 1}


class TokenState:
    """The fields of an SPL token account that decide whose it is (layout of 165 bytes)."""

    __slots__ = ("amount", "close_authority", "delegate", "is_initialized", "mint", "native", "owner")

    def __init__(self, data: bytes) -> None:
        self.mint = Pubkey.from_bytes(data[0:32])
        self.owner = Pubkey.from_bytes(data[32:64])
        self.amount = int.from_bytes(data[64:72], "little")
        self.delegate = Pubkey.from_bytes(data[76:108]) if data[72:76] != bytes(4) else None
        self.is_initialized = data[108] == 1
        self.native = data[109:113] != bytes(4)
        self.close_authority = Pubkey.from_bytes(data[133:165]) if data[129:133] != bytes(4) else None


def token_state(account: AccountInfo | None) -> TokenState | None:
    """Return the state of a token account, None for what is no classic token account."""
    if account is None or account.owner != str(TOKEN) or len(account.data) != TOKEN_ACCOUNT_BYTES:
        return None
    return TokenState(account.data)


def token_problem(state: TokenState, wallet: Pubkey) -> str | None:
    """Return why an account is not simply the wallet's: owner, delegate, close authority, state."""
    if state.owner != wallet:
        return f"belongs to {state.owner}"
    if state.delegate is not None:
        return f"may be spent by delegate {state.delegate}"
    if state.close_authority not in (None, wallet):
        return f"may be closed by {state.close_authority}"
    return None if state.is_initialized else "is frozen or not initialized"


def own_mint(draft: Draft, account: Pubkey) -> Pubkey:
    """Return the mint of an account of ours. Raises `Violation` unless the *chain* says that the wallet owns it.

    An absent account passes only at the wallet's derived address: whoever creates it there creates it for the wallet.
    """
    if account in draft.temporary:
        return draft.temporary[account]
    info = draft.view.account(account)
    if info is None or (info.owner == str(SYSTEM) and not info.data):
        for mint in draft.expectation.mints:
            if account == get_associated_token_address(draft.wallet, mint):
                return mint
        raise Violation(OWNER_RULE, f"{account} is not on chain and not derived from the wallet")
    state = token_state(info)
    if state is None:
        raise Violation(OWNER_RULE, f"{account} is not a classic token account")
    problem = token_problem(state, draft.wallet)
    if problem is not None and (state.owner != draft.wallet or not draft.expectation.is_exit):
        # What was lent to a delegate before cannot keep us from leaving; it does keep us from entering.
        raise Violation(OWNER_RULE, f"token account {account} {problem}")
    if state.mint not in draft.expectation.mints:
        raise Violation("mint", f"token account {account} holds mint {state.mint}, not one of this order")
    return state.mint


def check_token(step: Step, draft: Draft) -> None:
    """Check an instruction of the Token program, by tag. Raises `Violation`."""
    tag = step.data[0] if step.data else -1
    if tag in _REFUSED:
        raise Violation(RULE, f"instruction {step.index} is {_REFUSED[tag]} ({tag}) of the Token program")
    if tag not in _MAX_LENGTHS:
        raise Violation(
            RULE, f"instruction {step.index} of the Token program has tag {tag}, which is not allowed"
        )
    if len(step.data) != _MAX_LENGTHS[tag]:
        raise Violation(RULE, f"instruction {step.index} of the Token program has {len(step.data)} bytes")
    if tag in (3, 12):
        _transfer(step, draft, checked=tag == 12)
    elif tag == 9:
        own_mint(draft, step.account(0))
        _must_be(step, 1, draft.wallet, "close-destination", "lamports of a closed account go")
        _must_be(step, 2, draft.wallet, RULE, "an account is closed by authority")
    elif tag in (1, 16, 18):
        _initialize(step, draft, tag)
    elif tag == 17:
        if own_mint(draft, step.account(0)) != WSOL_MINT:
            raise Violation(RULE, f"SyncNative on {step.account(0)}, which is no wrapped SOL")
    elif step.account(0) not in draft.made:
        raise Violation(RULE, f"ImmutableOwner on {step.account(0)}, which is not made here")


def _must_be(step: Step, slot: int, wanted: Pubkey, rule: str, what: str) -> None:
    if step.account(slot) != wanted:
        raise Violation(rule, f"instruction {step.index}: {what} to {step.account(slot)}, not {wanted}")


def _transfer(step: Step, draft: Draft, *, checked: bool) -> None:
    source, destination, authority = (
        step.account(0),
        step.account(2 if checked else 1),
        step.account(3 if checked else 2),
    )
    if authority != draft.wallet:
        raise Violation(RULE, f"a token transfer by authority {authority}, not by our wallet")
    mint = own_mint(draft, source)
    if checked and step.account(1) != mint:
        raise Violation("mint", f"a transfer names mint {step.account(1)}, its source holds {mint}")
    amount = step.u64(1)
    if draft.expectation.op is Operation.WITHDRAW and draft.rules.withdrawal is not None:
        state = token_state(draft.view.account(destination))
        if state and state.owner == draft.rules.withdrawal and state.mint == mint == USDC_MINT:
            draft.sent_usdc += amount
            return
    try:
        received = own_mint(draft, destination)
    except Violation as problem:
        raise Violation(
            "transfer-destination",
            f"{amount} base units of {mint} would go to somebody else: {problem.reason}",
        ) from None
    if received != mint:
        raise Violation("mint", f"a transfer of {mint} into an account of {received}")


def _initialize(step: Step, draft: Draft, tag: int) -> None:
    account, mint = step.account(0), step.account(1)
    if draft.made.get(account) != TOKEN:
        raise Violation(
            RULE, f"{account} is initialized as a token account, but not made in this transaction"
        )
    if mint not in draft.expectation.mints:
        raise Violation("mint", f"a token account of mint {mint} is made, which is not of this order")
    owner = step.account(2) if tag == 1 else Pubkey.from_bytes(step.data[1:33])
    if owner != draft.wallet:
        raise Violation(OWNER_RULE, f"token account {account} is made for {owner}, not for our wallet")
    draft.temporary[account] = mint


def _between(draft: Draft, mint: Pubkey) -> None:
    """A route of several exchanges passes through other tokens, in accounts of ours. Raises `Violation` for no such token."""
    info = draft.view.account(mint)
    if info is None or info.owner != str(TOKEN) or len(info.data) != MINT_BYTES:
        raise Violation("mint", f"a token account of mint {mint} is made, which is not of this order")
    draft.between.add(mint)
    if len(draft.between) > MOST_BETWEEN:
        raise Violation("mint", f"token accounts of {len(draft.between)} other mints are made")


def check_ata(step: Step, draft: Draft) -> None:
    """Check an instruction of the Associated Token program: only the wallet's own account of a mint of this order."""
    if step.data not in (b"", b"\x00", b"\x01"):
        raise Violation("ata", f"instruction {step.index} of the associated-token program is not Create")
    if len(step.accounts) not in (6, 7):
        raise Violation("ata", f"instruction {step.index} names {len(step.accounts)} accounts")
    payer, account, owner, mint, system, program = step.accounts[:6]
    if payer != draft.wallet or owner != draft.wallet:
        raise Violation("ata", f"a token account is made for {owner} at the expense of {payer}")
    if mint not in draft.expectation.mints:
        _between(draft, mint)
    if program != TOKEN or system != SYSTEM:
        raise Violation("ata", f"a token account under program {program}; our mints are classic SPL tokens")
    if account != get_associated_token_address(draft.wallet, mint):
        raise Violation("ata", f"{account} is not the wallet's associated account of {mint}")
    if step.program != ATA:
        raise Violation("ata", f"program {step.program} is not the associated-token program")
