"""What an operator can do to the chain: stop it, age it, lose transactions, give money, read the ledger."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from solders.pubkey import Pubkey

from twins.solana.blocks import BLOCKHASH_AGE, MAX_LAG_SLOTS
from twins.solana.ledger import TokenBalance
from twins.solana.mempool import Congestion

if TYPE_CHECKING:
    from twins.solana.chain import SolanaChain

SOCKET_MODES = ("normal", "silent", "closed", "unsupported")
_LAMPORTS_PER_SOL = 1_000_000_000


class Controls:
    """One method an op; each answers a JSON object."""

    def __init__(self, chain: SolanaChain) -> None:
        self._chain = chain
        self._ops: dict[str, Callable[[dict[str, Any]], None]] = {
            "halt": self._halt,
            "resume": self._resume,
            "expire_blockhash": self._expire_blockhash,
            "airdrop": self._airdrop,
            "set_token": self._set_token,
            "drop_next": self._drop_next,
            "land_late": self._land_late,
            "lag": self._lag,
            "congestion": self._congestion,
            "sockets": self._sockets,
        }

    def run(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        if op == "ledger":
            return {"transactions": self._ledger()}
        if op not in self._ops:
            raise ValueError(f"unknown op {op!r}; known: {', '.join(sorted([*self._ops, 'ledger']))}")
        self._ops[op](body)
        blocks = self._chain.blocks
        return {"ok": True, "height": blocks.tip, "slot": blocks.slot_of(blocks.tip), "halted": blocks.halted}

    def _halt(self, body: dict[str, Any]) -> None:
        self._chain.blocks.halt()

    def _resume(self, body: dict[str, Any]) -> None:
        self._chain.blocks.resume(self._chain.world.now_ms())

    def _expire_blockhash(self, body: dict[str, Any]) -> None:
        """Every blockhash known until now becomes too old; `blocks` says how far (default 151)."""
        self._chain.blocks.add(int(body.get("blocks", BLOCKHASH_AGE + 1)), self._chain.world.now_ms())

    def _airdrop(self, body: dict[str, Any]) -> None:
        lamports = int(Decimal(str(body["sol"])) * _LAMPORTS_PER_SOL)
        self._chain.airdrop(Pubkey.from_string(body["address"]), lamports)

    def _set_token(self, body: dict[str, Any]) -> None:
        """`amount` in base units."""
        owner, mint = Pubkey.from_string(body["owner"]), Pubkey.from_string(body["mint"])
        self._chain.set_token_balance(owner, mint, int(body["amount"]))

    def _drop_next(self, body: dict[str, Any]) -> None:
        """The next `n` transactions are accepted, answered with their signature, and never land."""
        self._chain.mempool.drops_left = int(body.get("n", 1))

    def _land_late(self, body: dict[str, Any]) -> None:
        """The next `n` (default 1) transactions land `blocks` later, if they are still valid then."""
        self._chain.mempool.late_blocks += [int(body["blocks"])] * int(body.get("n", 1))

    def _lag(self, body: dict[str, Any]) -> None:
        """This node shows the chain `slots` behind its head; 0 ends it."""
        slots = int(body["slots"])
        if not 0 <= slots <= MAX_LAG_SLOTS:
            raise ValueError(f"slots must be 0..{MAX_LAG_SLOTS}, got {slots}")
        self._chain.blocks.lag_blocks = slots

    def _congestion(self, body: dict[str, Any]) -> None:
        """Set what others pay per compute unit: for every block, or to write to `account` (0: nobody is there).

        A node answers as if it had always been so; with `from_now` the blocks that are made keep what they showed.
        With `binding`, a transaction that writes to the account and pays less waits, and may expire meanwhile.
        """
        price = int(body["micro_lamports"])
        self._chain.catch_up()
        since = self._chain.blocks.tip + 1 if body.get("from_now") else 0
        if "account" not in body:
            self._chain.prices.set(None, price, since)
            return
        account = Pubkey.from_string(body["account"])
        self._chain.prices.set(account, price, since)
        self._chain.congested.pop(account, None)
        if price:
            self._chain.congested[account] = Congestion(price, bool(body.get("binding")))

    def _sockets(self, body: dict[str, Any]) -> None:
        """The websocket: `mode` normal, silent (connected, no notification), closed, or unsupported (no subscriptions)."""
        if body.get("mode") not in SOCKET_MODES:
            raise ValueError(f"mode is one of {', '.join(SOCKET_MODES)}, got {body.get('mode')!r}")
        self._chain.socket_mode = body["mode"]

    def _ledger(self) -> list[dict[str, Any]]:
        return [
            {
                "signature": str(landed.signature),
                "slot": landed.slot,
                "height": landed.height,
                "time_ms": landed.time_ms,
                "err": landed.err,
                "fee_lamports": landed.fee_lamports,
                "accounts": [str(key) for key in landed.keys.all],
                "pre_balances": list(landed.pre_balances),
                "post_balances": list(landed.post_balances),
                "pre_token_balances": [_token_row(row) for row in landed.pre_token_balances],
                "post_token_balances": [_token_row(row) for row in landed.post_token_balances],
            }
            for landed in self._chain.ledger.by_signature.values()
        ]


def _token_row(row: TokenBalance) -> dict[str, Any]:
    index, mint, owner = row.account_index, str(row.mint), str(row.owner)
    return {"account_index": index, "mint": mint, "owner": owner, "amount": row.amount}
