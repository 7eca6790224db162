"""RPC methods that read the cluster and its accounts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from solders.pubkey import Pubkey

from twins.solana import rpc_params as p
from twins.solana import rpc_shapes as shapes
from twins.solana import tokens
from twins.solana.blocks import MINUTE_MS, SLOTS_PER_EPOCH, Blocks
from twins.solana.chain import SolanaChain
from twins.solana.errors import BLOCK_NOT_AVAILABLE, SLOT_SKIPPED, RpcError
from twins.solana.rpc_params import Params

API_VERSION = "4.2.0"
_FEATURE_SET = 3_604_001_754
_MAX_ACCOUNTS = 100
_MAX_BLOCK_RANGE = 500_000
_TRANSACTIONS_PER_SLOT = 900
_NON_VOTE_PER_SLOT = 300


class Reads:
    """Cluster state and accounts, at the commitment that is asked for (default finalized)."""

    def __init__(self, chain: SolanaChain) -> None:
        self._chain = chain
        self._genesis = str(chain.svm.latest_blockhash())

    def at(self, config: dict[str, Any]) -> tuple[str, int]:
        """Return (commitment, context slot) of a call."""
        commitment = p.commitment(config)
        return commitment, self._chain.require_slot(commitment, config.get("minContextSlot"))

    @staticmethod
    def in_context(slot: int, value: Any) -> dict[str, Any]:
        return {"context": {"apiVersion": API_VERSION, "slot": slot}, "value": value}

    def get_health(self, params: Params) -> str:
        self._chain.catch_up()
        self._chain.require_health()
        return "ok"

    def get_version(self, params: Params) -> dict[str, Any]:
        return {"feature-set": _FEATURE_SET, "solana-core": API_VERSION}

    def get_genesis_hash(self, params: Params) -> str:
        """Return a hash of its own, so that nobody takes this chain for mainnet."""
        return self._genesis

    def get_ag_genesis_cert(self, params: Params) -> None:
        """Return null: not migrated to Alpenglow."""

    def get_slot(self, params: Params) -> int:
        return self.at(params.config(0))[1]

    def get_block_height(self, params: Params) -> int:
        commitment, _ = self.at(params.config(0))
        return self._chain.blocks.height(commitment)

    def get_epoch_info(self, params: Params) -> dict[str, int]:
        commitment, slot = self.at(params.config(0))
        height = self._chain.blocks.height(commitment)
        return {
            "absoluteSlot": slot,
            "blockHeight": height,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": height * _TRANSACTIONS_PER_SLOT + len(self._chain.ledger.by_signature),
        }

    def get_latest_blockhash(self, params: Params) -> dict[str, Any]:
        commitment, slot = self.at(params.config(0))
        blockhash, last_valid = self._chain.blocks.blockhash(commitment)
        return self.in_context(slot, {"blockhash": str(blockhash), "lastValidBlockHeight": last_valid})

    def is_blockhash_valid(self, params: Params) -> dict[str, Any]:
        blockhash = p.blockhash(params.text(0))
        commitment, slot = self.at(params.config(1))
        blocks = self._chain.blocks
        return self.in_context(slot, blocks.accepts(blockhash, blocks.height(commitment)))

    def get_block_time(self, params: Params) -> int:
        slot = params.integer(0)
        if slot > self._chain.slot():
            raise RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        height = Blocks.height_of_slot(slot)
        if height is None:
            raise RpcError(SLOT_SKIPPED, f"Slot {slot} was skipped, or missing in long-term storage")
        return self._chain.blocks.time_of(height) // 1000

    def get_first_available_block(self, params: Params) -> int:
        self._chain.catch_up()
        return self._chain.blocks.oldest_slot

    def get_blocks(self, params: Params) -> list[int]:
        start = params.integer(0)
        given = params.optional(1)
        config = given if isinstance(given, dict) else params.config(2)
        newest = self._chain.slot(p.at_least_confirmed(config))
        end = min(newest, given if isinstance(given, int) else newest)
        if end - start > _MAX_BLOCK_RANGE:
            raise p.invalid(f"Slot range too large; max {_MAX_BLOCK_RANGE}")
        return [slot for slot in range(start, end + 1) if Blocks.height_of_slot(slot) is not None]

    def get_recent_performance_samples(self, params: Params) -> list[dict[str, int]]:
        """Return samples, newest first, one a minute. Other people's transactions are a constant number a slot."""
        given = params.optional(0)
        limit = 720 if given is None else params.integer(0)
        if limit > 720:
            raise p.invalid("Invalid limit; max 720")
        self._chain.catch_up()
        marks = list(self._chain.blocks.minutes)
        samples = []
        for (_, earlier), (_, slot) in pairwise(marks):
            slots = slot - earlier
            samples.append(
                {
                    "slot": slot,
                    "numSlots": slots,
                    "numTransactions": slots * _TRANSACTIONS_PER_SLOT,
                    "numNonVoteTransactions": slots * _NON_VOTE_PER_SLOT,
                    "samplePeriodSecs": MINUTE_MS // 1000,
                }
            )
        return samples[::-1][:limit]

    def get_minimum_balance_for_rent_exemption(self, params: Params) -> int:
        return self._chain.svm.minimum_balance_for_rent_exemption(params.integer(0))

    def get_balance(self, params: Params) -> dict[str, Any]:
        key = params.pubkey(0)
        commitment, slot = self.at(params.config(1))
        found = self._chain.account(key, commitment)
        return self.in_context(slot, found.lamports if found else 0)

    def get_account_info(self, params: Params) -> dict[str, Any]:
        key, config = params.pubkey(0), params.config(1)
        self._chain.before_reading()
        commitment, slot = self.at(config)
        return self.in_context(slot, self.shown(key, commitment, config))

    def get_multiple_accounts(self, params: Params) -> dict[str, Any]:
        keys, config = p.pubkeys(params.required(0), _MAX_ACCOUNTS), params.config(1)
        self._chain.before_reading()
        commitment, slot = self.at(config)
        config = {"encoding": "base64", **config}
        return self.in_context(slot, [self.shown(key, commitment, config) for key in keys])

    def shown(self, key: Pubkey, commitment: str, config: dict[str, Any]) -> dict[str, Any] | None:
        found = self._chain.account(key, commitment)
        return shapes.account(
            found, config.get("encoding"), self._chain.svm.get_account, config.get("dataSlice")
        )

    def get_token_account_balance(self, params: Params) -> dict[str, Any]:
        key = params.pubkey(0)
        commitment, slot = self.at(params.config(1))
        found = self._chain.account(key, commitment)
        if found is None or found.lamports == 0:
            raise p.invalid("Invalid param: could not find account")
        if not tokens.is_token_account(found):
            raise p.invalid("Invalid param: not a Token account")
        token = tokens.read_token(found)
        mint = tokens.read_mint(self._chain.svm.get_account(token.mint))
        return self.in_context(slot, shapes.token_amount(token.amount, mint.decimals if mint else 0))

    def get_token_supply(self, params: Params) -> dict[str, Any]:
        key = params.pubkey(0)
        commitment, slot = self.at(params.config(1))
        found = self._chain.account(key, commitment)
        if found is None:
            raise p.invalid("Invalid param: could not find account")
        mint = tokens.read_mint(found)
        if mint is None:
            raise p.invalid("Invalid param: not a Token mint")
        return self.in_context(slot, shapes.token_amount(mint.supply, mint.decimals))

    def get_token_accounts_by_owner(self, params: Params) -> dict[str, Any]:
        owner, wanted, config = params.pubkey(0), params.config(1), params.config(2)
        commitment, slot = self.at(config)
        mint: Pubkey | None = None
        programs = [tokens.TOKEN_PROGRAM, tokens.TOKEN_2022_PROGRAM]
        if "mint" in wanted:
            mint = p.pubkey(wanted["mint"])
            account = self._chain.svm.get_account(mint)
            if account is None or tokens.read_mint(account) is None:
                raise p.invalid("Invalid param: could not find mint")
            programs = [account.owner]
        elif "programId" in wanted:
            program = p.pubkey(wanted["programId"])
            if program not in programs:
                raise p.invalid("Invalid param: unrecognized Token program id")
            programs = [program]
        else:
            raise p.invalid("Invalid params: expected `mint` or `programId`.")
        rows = []
        for program in programs:
            for key, _ in self._chain.svm.get_program_accounts(program):
                found = self._chain.account(key, commitment)
                if found is None or not tokens.is_token_account(found):
                    continue
                token = tokens.read_token(found)
                if token.owner == owner and mint in (None, token.mint):
                    rows.append({"pubkey": str(key), "account": self.shown(key, commitment, config)})
        return self.in_context(slot, sorted(rows, key=lambda row: str(row["pubkey"])))
