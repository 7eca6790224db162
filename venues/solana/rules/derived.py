"""Accounts that are not on chain: an address passes only where it is derived from what is known, so that nobody can put a
program or a wallet there later.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from venues.solana.rules.common import (
    FARMS,
    JUPITER,
    KAMINO,
    MARGINFI,
    SAVE,
    WHIRLPOOL,
    Draft,
    key,
)
from venues.solana.rules.system import JITO_TIP_ACCOUNTS
from venues.solana.view import Keys, Violation

SYSVARS = frozenset(
    key(one)
    for one in (
        "Sysvar1nstructions1111111111111111111111111",
        "SysvarRent111111111111111111111111111111111",
        "SysvarC1ock11111111111111111111111111111111",
    )
)
SEEDS = (
    b"__event_authority",
    b"log",
    b"authority",
    b"pool_authority",
    b"vault_and_lp_mint_auth_seed",
    b"global",
)
"""Single seeds under which exchanges keep an authority that holds nothing and is therefore not on chain."""
SHARED_AUTHORITIES = 64
TICK_ARRAY = 88
WHIRLPOOL_BYTES = 653
ARRAYS_AROUND = 4


@lru_cache(maxsize=4096)
def derived(program: Pubkey, *seeds: bytes) -> Pubkey:
    """Return a program derived address."""
    return Pubkey.find_program_address(list(seeds), program)[0]


def check_absent(keys: Keys, draft: Draft) -> None:
    """Check every account that the chain does not have. Raises `Violation` for one that is not derived from what is known."""
    absent = [one for one in keys.every if _is_absent(one, draft)]
    if not absent:
        return
    missing = set(absent)
    for address in _derivable(keys, draft):
        missing.discard(address)
        if not missing:
            return
    shown = next(one for one in absent if one in missing)
    raise Violation(
        "absent",
        f"account {shown} is not on chain and not derived from what is known: anything could stand there later; if it is "
        "an exchange's own, add it with `evenkeel routes add account`",
    )


def _is_absent(account: Pubkey, draft: Draft) -> bool:
    if draft.view.account(account) is not None or account in draft.made or account in draft.temporary:
        return False
    expectation = draft.expectation
    named = (draft.wallet, expectation.asset_bank, expectation.usdc_bank, expectation.market, draft.position)
    known = account in named or account in SYSVARS or account in JITO_TIP_ACCOUNTS
    return not (
        known
        or account == draft.rules.withdrawal
        or account in draft.rules.routes.accounts
        or account in expectation.flash_banks.values()
    )


def _derivable(keys: Keys, draft: Draft) -> Iterator[Pubkey]:
    """Addresses that may be absent, the likely ones first."""
    expectation, wallet = draft.expectation, bytes(draft.wallet)
    for mint in (*expectation.mints, *draft.between):
        yield get_associated_token_address(draft.wallet, mint)
    reachable = draft.rules.reachable
    programs = [one for one in keys.every if one in reachable]
    for seed in SEEDS:
        for program in programs:
            yield derived(program, seed)
    for market in (expectation.market, *keys.every):
        if market is not None:
            yield derived(KAMINO, b"lma", bytes(market))
            yield derived(SAVE, bytes(market))
            yield derived(MARGINFI, b"liquidity_vault_auth", bytes(market))
    yield derived(KAMINO, b"user_meta", wallet)
    for number in range(SHARED_AUTHORITIES if JUPITER in keys.every else 0):
        yield derived(JUPITER, b"authority", bytes([number]))
    if draft.position is not None:
        for farm in keys.every:
            yield derived(FARMS, b"user", bytes(farm), bytes(draft.position))
    for pool in keys.every:
        yield from _tick_arrays(pool, draft)


def _tick_arrays(pool: Pubkey, draft: Draft) -> Iterator[Pubkey]:
    """The arrays of ticks around a Whirlpool's price; those that nobody has used are not on chain."""
    info = draft.view.account(pool)
    if info is None or info.owner != str(WHIRLPOOL) or len(info.data) != WHIRLPOOL_BYTES:
        return
    spacing = int.from_bytes(info.data[41:43], "little")
    tick = int.from_bytes(info.data[81:85], "little", signed=True)
    width = max(1, spacing) * TICK_ARRAY
    for number in range(-ARRAYS_AROUND, ARRAYS_AROUND + 1):
        start = (tick // width + number) * width
        yield derived(WHIRLPOOL, b"tick_array", bytes(pool), str(start).encode())
