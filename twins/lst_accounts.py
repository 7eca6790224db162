"""Stake pool accounts of the LSTs on the Solana twin, so that a client reads the redemption rate from chain."""

from __future__ import annotations

from solders.account import Account
from solders.pubkey import Pubkey

from twins.solana import SolanaChain
from twins.world import World

STAKE_POOLS = {
    "jitoSOL": (
        "Jito4APyf642JPZPx3hGc6WWJ8zPKtRbRs4P815Awbb",
        "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn",
        "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy",
    ),
    "jupSOL": (
        "8VpRhuxa7sUUepdY3kQiTmX9rS5vx4WgaXiAnXq4KCtr",
        "jupSoLaHXQiZZTSfEWMTRRgpnyFm8f6sZdosWBjx93v",
        "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn",
    ),
}
INF_POOL = "AYhux5gJzCoeoc1PoJ1VxwPDe22RwcvpHviLDD1oCGvW"
INF_MINT = "5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X4TxVusJm"
INF_PROGRAM = "5ocnV1qiCgaQR8Jb8xWnVbApfaygJ8tNoZfgPwsgx9kx"
POOL_SUPPLY = 6_000_000 * 10**9
POOL_BYTES = 611
"""Borsh offsets of the SPL stake pool: mint 162, total_lamports 258, pool_token_supply 266, last_update_epoch 274."""


class LstAccounts:
    """Keeps the pools' state in step with the world: SOL per token = total lamports / pool token supply."""

    def __init__(self, world: World, chain: SolanaChain) -> None:
        self._world = world
        self._chain = chain
        self._shown: dict[str, int] = {}

    @staticmethod
    def pubkey(text: str) -> Pubkey:
        return Pubkey.from_string(text)

    def refresh(self) -> None:
        """Write the accounts whose rate has changed since the last call."""
        for symbol in (*STAKE_POOLS, "INF"):
            lamports = int(self._world.redemption_rate(symbol) * POOL_SUPPLY)
            if self._shown.get(symbol) != lamports:
                self._write(symbol, lamports)
                self._shown[symbol] = lamports

    def _write(self, symbol: str, lamports: int) -> None:
        if symbol == "INF":
            mint = self.pubkey(INF_MINT)
            supply = self._supply(mint)
            value = lamports * supply // POOL_SUPPLY
            data = value.to_bytes(8, "little") + bytes(168)
            self._set(INF_POOL, data, INF_PROGRAM)
            return
        pool, mint_text, program = STAKE_POOLS[symbol]
        state = bytearray(POOL_BYTES)
        state[0] = 1
        state[162:194] = bytes(self.pubkey(mint_text))
        state[258:266] = lamports.to_bytes(8, "little")
        state[266:274] = POOL_SUPPLY.to_bytes(8, "little")
        state[274:282] = self._chain.svm.get_clock().epoch.to_bytes(8, "little")
        self._set(pool, bytes(state), program)

    def _supply(self, mint: Pubkey) -> int:
        """Supply of the INF mint, which the pool's recorded SOL value is divided by."""
        self._chain.ensure_mint(mint, 9)
        account = self._chain.svm.get_account(mint)
        supply = int.from_bytes(account.data[36:44], "little") if account else 0
        if account is not None and supply < POOL_SUPPLY:
            data = bytearray(account.data)
            data[36:44] = POOL_SUPPLY.to_bytes(8, "little")
            self._chain.svm.set_account(
                mint,
                Account(account.lamports, bytes(data), account.owner, account.executable, account.rent_epoch),
            )
            return POOL_SUPPLY
        return supply

    def _set(self, address: str, data: bytes, owner: str) -> None:
        lamports = self._chain.svm.minimum_balance_for_rent_exemption(len(data))
        self._chain.set_account(self.pubkey(address), Account(lamports, data, self.pubkey(owner)))
