"""Hostile instructions, and the check that a build with them is refused by the rule it breaks."""

from __future__ import annotations

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.token.associated import get_associated_token_address

from tests.attacks.scene import Scene
from twins.asgard.venue import TOKEN_PROGRAM, USDC_MINT
from venues.solana.rules.approval import Refused


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def meta(key: Pubkey, signer: bool = False, writable: bool = True) -> AccountMeta:
    return AccountMeta(key, signer, writable)


def pay(s: Scene, lamports: int, to: Pubkey | None = None) -> Instruction:
    return transfer(
        TransferParams(from_pubkey=s.wallet, to_pubkey=to or s.attacker.pubkey(), lamports=lamports)
    )


def token_ix(data: bytes, *accounts: AccountMeta) -> Instruction:
    return Instruction(TOKEN_PROGRAM, data, list(accounts))


def own(s: Scene, mint: Pubkey = USDC_MINT) -> Pubkey:
    return get_associated_token_address(s.wallet, mint)


def theirs(s: Scene, mint: Pubkey = USDC_MINT) -> Pubkey:
    return get_associated_token_address(s.attacker.pubkey(), mint)


async def refused(s: Scene, build: str | list[str], rule: str, **order: object) -> Refused:
    verdict = await s.judge([build] if isinstance(build, str) else build, await s.opening(**order))
    assert isinstance(verdict, Refused), "approved"
    assert verdict.rule == rule, verdict
    assert rule in str(verdict) and len(verdict.reason) > 10
    return verdict


def with_account(instruction: Instruction, slot: int, key: Pubkey) -> Instruction:
    accounts = list(instruction.accounts)
    accounts[slot] = AccountMeta(key, accounts[slot].is_signer, accounts[slot].is_writable)
    return Instruction(instruction.program_id, bytes(instruction.data), accounts)
