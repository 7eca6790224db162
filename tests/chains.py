"""A Solana chain on a world whose time moves only when a test moves it, and transactions for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from tests.worlds import flat_world
from twins.faults import FaultPlan
from twins.solana.chain import SolanaChain
from twins.world import World

USDC = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
SOL = 1_000_000_000
_STILL = 1e-9


@dataclass
class Bench:
    """A chain, its world and one funded wallet (100 SOL, 1,000 USDC)."""

    world: World
    faults: FaultPlan
    chain: SolanaChain
    wallet: Keypair

    def pass_blocks(self, blocks: int) -> None:
        # Half a block more than asked for, so that rounding of the clock cannot decide.
        blocks_due = self.chain.height() + blocks
        while self.chain.height() < blocks_due:
            missing = blocks_due - self.chain.height()
            self.world.clock.advance_to(self.world.now_ms() + missing * self.chain.blocks.block_ms)

    def pass_seconds(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)

    def signed(
        self,
        *instructions: Instruction,
        blockhash: Hash | None = None,
        tables: Sequence[AddressLookupTableAccount] = (),
        also: Sequence[Keypair] = (),
    ) -> VersionedTransaction:
        """A v0 transaction of the wallet, on the newest blockhash unless given another."""
        blockhash = blockhash or self.chain.latest_blockhash()[0]
        message = MessageV0.try_compile(self.wallet.pubkey(), list(instructions), list(tables), blockhash)
        return VersionedTransaction(message, [self.wallet, *also])

    def pay(self, receiver: Pubkey, lamports: int, blockhash: Hash | None = None) -> VersionedTransaction:
        return self.signed(self.transfer(receiver, lamports), blockhash=blockhash)

    def transfer(self, receiver: Pubkey, lamports: int) -> Instruction:
        params = TransferParams(from_pubkey=self.wallet.pubkey(), to_pubkey=receiver, lamports=lamports)
        return transfer(params)

    def call(self, program_id: Pubkey, data: bytes = b"", *accounts: Pubkey) -> Instruction:
        own = AccountMeta(self.wallet.pubkey(), True, True)
        return Instruction(program_id, data, [own, *(AccountMeta(key, False, True) for key in accounts)])


def bench() -> Bench:
    world = flat_world(speed=_STILL)
    faults = FaultPlan()
    chain = SolanaChain(world, faults)
    wallet = Keypair()
    chain.airdrop(wallet.pubkey(), 100 * SOL)
    chain.ensure_mint(USDC, 6)
    chain.set_token_balance(wallet.pubkey(), USDC, 1_000_000_000)
    return Bench(world, faults, chain, wallet)
