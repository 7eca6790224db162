"""What we are willing to put our signature on: strict decoding, structural rules, fee and tip sums, and
signing.

Rules of reference/solana-asgard.md 5.1 and 5.3. They need no network, so they hold even where a program would
behave differently under simulation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from solders.hash import Hash
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from evenkeel.errors import VenueRefused
from venues.solana.fees import BASE_FEE_LAMPORTS, priority_fee_lamports
from venues.solana.keys import SolanaSigner

MAX_BYTES = 1232
MAX_UNITS = 1_400_000
SYSTEM = Pubkey.from_string("11111111111111111111111111111111")
COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
JITO_TIP_ACCOUNTS = frozenset(
    Pubkey.from_string(one)
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
_NONCE_TAGS = frozenset({4, 5, 6, 7, 12})
_WALLET_TAKING_TAGS = {1: "Assign", 10: "AssignWithSeed", 8: "Allocate", 9: "AllocateWithSeed"}
_TRANSFER_TAGS = frozenset({2, 11})
_TOKEN_AUTHORITY_TAGS = {4: "Approve", 6: "SetAuthority", 13: "ApproveChecked", 255: "Batch"}


class UnsafeBuild(VenueRefused):
    """A transaction we were asked to sign breaks a rule; nothing was signed."""

    def __init__(self, reason: str) -> None:
        super().__init__("our signing rules", reason)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a transaction costs beyond its purpose, in lamports. The priority part is price x limit, used or
    not.
    """

    base_lamports: int
    priority_lamports: int
    tip_lamports: int
    unit_price_micro_lamports: int
    unit_limit: int

    @property
    def fee_lamports(self) -> int:
        return self.base_lamports + self.priority_lamports


def decode_strict(encoded: str) -> VersionedTransaction:
    """Base64 to a v0 transaction whose every byte is accounted for. Raises `UnsafeBuild`."""
    if not isinstance(encoded, str):
        raise UnsafeBuild(f"a transaction came as {type(encoded).__name__}, not as base64 text")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise UnsafeBuild("a transaction is not valid base64") from None
    if len(raw) > MAX_BYTES:
        raise UnsafeBuild(f"a transaction has {len(raw)} bytes, the limit is {MAX_BYTES}")
    try:
        tx = VersionedTransaction.from_bytes(raw)
    except Exception as error:
        raise UnsafeBuild(f"a transaction does not decode: {error}") from None
    if bytes(tx) != raw:
        raise UnsafeBuild("a transaction has bytes that its decoded form does not account for")
    if tx.version() != 0 or not isinstance(tx.message, MessageV0):
        raise UnsafeBuild(f"a transaction has version {tx.version()}; only version 0 is signed")
    try:
        tx.sanitize()
    except Exception as error:
        raise UnsafeBuild(f"a transaction does not pass sanitizing: {error}") from None
    return tx


def check(tx: VersionedTransaction, wallet: Pubkey) -> None:
    """The structural rules before signing. Raises `UnsafeBuild` naming the rule.

    We pay the fee and sign only the first slot, every other signature is already there and verifies, there is
    no durable nonce, and no top-level instruction hands our wallet or a token account to anybody.
    """
    message = tx.message
    keys = message.account_keys
    if not keys or keys[0] != wallet:
        raise UnsafeBuild(f"the fee payer is {keys[0] if keys else 'missing'}, not our wallet {wallet}")
    if tx.uses_durable_nonce():
        raise UnsafeBuild("it uses a durable nonce, so it would never expire")
    verified = tx.verify_with_results()
    required = message.header.num_required_signatures
    if len(tx.signatures) != required or len(verified) != required:
        raise UnsafeBuild(f"it carries {len(tx.signatures)} signature slots for {required} signers")
    if tx.signatures[0] != Signature.default() and not verified[0]:
        raise UnsafeBuild("our own slot already carries a signature that does not verify")
    for slot in range(1, required):
        if not verified[slot]:
            raise UnsafeBuild(f"signer {keys[slot]} has not signed, and we sign for our wallet only")
    for compiled in message.instructions:
        _check_instruction(
            keys[compiled.program_id_index], bytes(compiled.data), list(compiled.accounts), keys, wallet
        )


def _check_instruction(
    program: Pubkey, data: bytes, accounts: list[int], keys: Sequence[Pubkey], wallet: Pubkey
) -> None:
    if program == SYSTEM:
        tag = int.from_bytes(data[:4], "little")
        if tag in _NONCE_TAGS:
            raise UnsafeBuild(f"it contains nonce instruction {tag} of the System program")
        if tag in _WALLET_TAKING_TAGS and accounts and _key(keys, accounts[0]) in (wallet, None):
            raise UnsafeBuild(f"it contains {_WALLET_TAKING_TAGS[tag]} on our wallet")
    elif program == TOKEN_2022:
        raise UnsafeBuild("it calls Token-2022; our mints are classic SPL tokens")
    elif program == TOKEN and data and data[0] in _TOKEN_AUTHORITY_TAGS:
        raise UnsafeBuild(f"it contains {_TOKEN_AUTHORITY_TAGS[data[0]]} of the Token program")


def _key(keys: Sequence[Pubkey], index: int) -> Pubkey | None:
    """A static key, or None for one that hides in a lookup table."""
    return keys[index] if index < len(keys) else None


def cost_of(tx: VersionedTransaction) -> Cost:
    """Fee and tips of one transaction. A transfer into a lookup-table address counts as a tip: it may be
    one.
    """
    message = tx.message
    keys = message.account_keys
    price = limit = 0
    has_limit = False
    default_limit = 0
    tip = 0
    for compiled in message.instructions:
        program = keys[compiled.program_id_index]
        data = bytes(compiled.data)
        default_limit += 3_000 if program in (SYSTEM, COMPUTE_BUDGET) else 200_000
        if program == COMPUTE_BUDGET and data[:1] == b"\x02":
            limit, has_limit = int.from_bytes(data[1:5], "little"), True
        elif program == COMPUTE_BUDGET and data[:1] == b"\x03":
            price = int.from_bytes(data[1:9], "little")
        elif program == SYSTEM and int.from_bytes(data[:4], "little") in _TRANSFER_TAGS:
            to_index = 2 if data[:1] == b"\x0b" else 1
            accounts = list(compiled.accounts)
            to = _key(keys, accounts[to_index]) if len(accounts) > to_index else None
            if to is None or to in JITO_TIP_ACCOUNTS:
                tip += int.from_bytes(data[4:12], "little")
    units = min(limit if has_limit else default_limit, MAX_UNITS)
    base = BASE_FEE_LAMPORTS * message.header.num_required_signatures
    return Cost(base, priority_fee_lamports(price, units), tip, price, units)


def total_cost(txs: Sequence[VersionedTransaction]) -> Cost:
    """Sums over a whole build; price is the highest and the limit the sum."""
    costs = [cost_of(tx) for tx in txs]
    return Cost(
        sum(one.base_lamports for one in costs),
        sum(one.priority_lamports for one in costs),
        sum(one.tip_lamports for one in costs),
        max((one.unit_price_micro_lamports for one in costs), default=0),
        sum(one.unit_limit for one in costs),
    )


def check_cost(txs: Sequence[VersionedTransaction], fee_cap_lamports: int, tip_cap_lamports: int) -> Cost:
    """The build's total against the caps. Raises `UnsafeBuild`."""
    cost = total_cost(txs)
    if cost.fee_lamports > fee_cap_lamports:
        raise UnsafeBuild(f"its fees are {cost.fee_lamports} lamports, the cap is {fee_cap_lamports}")
    if cost.tip_lamports > tip_cap_lamports:
        raise UnsafeBuild(f"its tips are {cost.tip_lamports} lamports, the cap is {tip_cap_lamports}")
    return cost


def sign_ours(tx: VersionedTransaction, signer: SolanaSigner) -> VersionedTransaction:
    """The transaction with our signature in slot 0 and all others kept. Raises `UnsafeBuild` if it then does
    not verify.

    Signs `to_bytes_versioned(message)`: `bytes(message)` lacks the version prefix of a v0 message.
    """
    check(tx, signer.pubkey)
    signatures = list(tx.signatures)
    signatures[0] = signer.sign(to_bytes_versioned(tx.message))
    signed = VersionedTransaction.populate(tx.message, signatures)
    if not all(signed.verify_with_results()):
        raise UnsafeBuild("it does not verify after signing")
    return signed


def blockhash_of(tx: VersionedTransaction) -> Hash:
    return tx.message.recent_blockhash
