"""RPC methods that send, simulate and look up transactions."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from solders.compute_budget import set_compute_unit_price
from solders.message import MessageV0, from_bytes_versioned
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from twins.solana import fees, wire
from twins.solana import rpc_params as p
from twins.solana import rpc_shapes as shapes
from twins.solana.blocks import COMMITMENTS, Blocks
from twins.solana.chain import SolanaChain
from twins.solana.errors import BLOCK_CLEANED_UP, BLOCK_NOT_AVAILABLE, SLOT_SKIPPED, RpcError
from twins.solana.ledger import LandedTransaction
from twins.solana.rpc_params import Params
from twins.solana.rpc_reads import Reads

STATUS_CACHE_SLOTS = 300
"""Rooted slots whose statuses a node keeps at hand; older ones need a search of the history."""
_MAX_STATUSES = 256
_MAX_FEE_ACCOUNTS = 128
_MAX_SIGNATURES = 1_000


class Transactions:
    """What a client does with transactions, at the commitment that is asked for (default finalized)."""

    def __init__(self, chain: SolanaChain, reads: Reads) -> None:
        self._chain = chain
        self._reads = reads
        self._airdrops = 0

    def send_transaction(self, params: Params) -> str:
        text, config = params.text(0), params.config(1)
        raw = p.transaction_bytes(text, config.get("encoding") or "base58")
        signature = self._chain.submit(
            raw,
            skip_preflight=bool(config.get("skipPreflight", False)),
            max_retries=config.get("maxRetries"),
            preflight_commitment=p.commitment(config, "preflightCommitment"),
            min_context_slot=config.get("minContextSlot"),
        )
        return str(signature)

    def simulate_transaction(self, params: Params) -> dict[str, Any]:
        text, config = params.text(0), params.config(1)
        raw = p.transaction_bytes(text, config.get("encoding") or "base58")
        commitment, slot = self._reads.at(config)
        sig_verify, replace = bool(config.get("sigVerify")), bool(config.get("replaceRecentBlockhash"))
        if sig_verify and replace:
            raise p.invalid("sigVerify may not be used with replaceRecentBlockhash")
        wanted = config.get("accounts") or {}
        encoding = wanted.get("encoding") or "base64"
        if encoding == "base58":
            raise p.invalid("base58 encoding not supported")
        keys = p.pubkeys(wanted.get("addresses", []), 256)
        limit = len(wire.decode(raw).message.account_keys) + self._loaded(raw)
        if len(keys) > limit:
            raise p.invalid(f"Too many accounts provided; max {limit}")
        found = self._chain.simulate(
            raw, sig_verify=sig_verify, replace_blockhash=replace, accounts=keys, commitment=commitment
        )
        accounts = None
        if wanted:
            lookup = self._chain.svm.get_account
            shown = (shapes.account(account, encoding, lookup) for account in found.accounts or ())
            accounts = [None] * len(keys) if found.err is not None else list(shown)
        replacement = None
        if found.replacement:
            blockhash, last_valid = found.replacement
            replacement = {"blockhash": str(blockhash), "lastValidBlockHeight": last_valid}
        with_inner = bool(config.get("innerInstructions"))
        rows = self._chain.token_rows(found.execution)
        value = shapes.simulation(found.execution, with_inner, accounts, replacement, rows)
        return self._reads.in_context(slot, value)

    @staticmethod
    def _loaded(raw: bytes) -> int:
        lookups = getattr(wire.decode(raw).message, "address_table_lookups", ())
        return sum(len(lookup.writable_indexes) + len(lookup.readonly_indexes) for lookup in lookups)

    def get_fee_for_message(self, params: Params) -> dict[str, Any]:
        """Return the fee; null once the message's blockhash is too old."""
        text, config = params.text(0), params.config(1)
        try:
            message = from_bytes_versioned(base64.b64decode(text, validate=True))
        except (ValueError, binascii.Error) as error:
            raise p.invalid(
                f"failed to deserialize solana_message::versions::VersionedMessage: {error}"
            ) from error
        commitment, slot = self._reads.at(config)
        blocks = self._chain.blocks
        known = blocks.accepts(message.recent_blockhash, blocks.height(commitment))
        return self._reads.in_context(slot, fees.fee_of(message) if known else None)

    def get_recent_prioritization_fees(self, params: Params) -> list[dict[str, int]]:
        params.at_most(1)
        accounts = p.pubkeys(params.optional(0) or [], _MAX_FEE_ACCOUNTS)
        self._chain.catch_up()
        return fees.recent_fees(self._chain, accounts)

    def get_signature_statuses(self, params: Params) -> dict[str, Any]:
        """Return the statuses. Without a search of the history only recent slots are looked at; null means not found
        there.
        """
        given, config = params.required(0), params.config(1)
        if not isinstance(given, list) or len(given) > _MAX_STATUSES:
            raise p.invalid(f"Too many inputs provided; max {_MAX_STATUSES}")
        history = bool(config.get("searchTransactionHistory"))
        slot = self._chain.slot("processed")
        oldest = self._chain.blocks.slot("finalized") - STATUS_CACHE_SLOTS
        rows: list[dict[str, Any] | None] = []
        for text in given:
            landed = self._chain.ledger.get(p.signature(text))
            if landed is None or landed.slot > slot or (landed.slot < oldest and not history):
                rows.append(None)
            else:
                rows.append(self._status(landed))
        return self._reads.in_context(slot, rows)

    def reached(self, landed: LandedTransaction) -> str:
        blocks = self._chain.blocks
        reached = "processed"
        for commitment in COMMITMENTS:
            if landed.height <= blocks.height(commitment):
                reached = commitment
        return reached

    def _status(self, landed: LandedTransaction) -> dict[str, Any]:
        reached = self.reached(landed)
        on_top = self._chain.blocks.height("processed") - landed.height
        return {
            "confirmationStatus": reached,
            "confirmations": None if reached == "finalized" else on_top,
            "err": landed.err,
            "slot": landed.slot,
            "status": shapes.status(landed.err),
        }

    def get_transaction(self, params: Params) -> dict[str, Any] | None:
        signature = p.signature(params.required(0))
        given = params.optional(1)
        config: dict[str, Any] = {"encoding": given} if isinstance(given, str) else params.config(1)
        newest = self._chain.slot(p.at_least_confirmed(config))
        landed = self._chain.ledger.get(signature)
        if landed is None or landed.slot > newest:
            return None
        encoding = config.get("encoding") or "json"
        return shapes.landed_transaction(landed, encoding, config.get("maxSupportedTransactionVersion"))

    def get_block(self, params: Params) -> dict[str, Any]:
        """Return a block with what landed in it here; nobody else's transactions and no rewards are in it.

        -32004 where it does not exist yet at the commitment, -32009 where the slot was skipped, -32001 where the node
        has thrown it away.
        """
        slot = params.integer(0)
        given = params.optional(1)
        config: dict[str, Any] = {"encoding": given} if isinstance(given, str) else params.config(1)
        blocks = self._chain.blocks
        if slot > self._chain.slot(p.at_least_confirmed(config)):
            raise RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        height = Blocks.height_of_slot(slot)
        if height is None:
            raise RpcError(SLOT_SKIPPED, f"Slot {slot} was skipped, or missing in long-term storage")
        own, parent = blocks.blockhash_at(height), blocks.blockhash_at(height - 1)
        if own is None or parent is None:
            first = f"First available block: {blocks.oldest_slot}"
            raise RpcError(BLOCK_CLEANED_UP, f"Block {slot} cleaned up, does not exist on node. {first}")
        block: dict[str, Any] = {
            "blockHeight": height,
            "blockTime": blocks.time_of(height) // 1000,
            "blockhash": str(own),
            "parentSlot": Blocks.slot_of(height - 1),
            "previousBlockhash": str(parent),
        }
        details = config.get("transactionDetails") or "full"
        if details not in ("full", "accounts", "signatures", "none"):
            names = "`full`, `signatures`, `none`, `accounts`"
            raise p.invalid(f"Invalid params: unknown variant `{details}`, expected one of {names}.")
        landed = self._chain.ledger.in_slot(slot)
        if details == "signatures":
            block["signatures"] = [str(one.signature) for one in landed]
        elif details != "none":
            encoding, version = config.get("encoding") or "json", config.get("maxSupportedTransactionVersion")
            short = details == "accounts"
            rows = [shapes.transaction_with_meta(one, encoding, version, short) for one in landed]
            block["transactions"] = rows
        if config.get("rewards", True):
            block["rewards"] = []
        return block

    def get_signatures_for_address(self, params: Params) -> list[dict[str, Any]]:
        """Return signatures, newest first, strictly older than `before` and newer than `until`."""
        address, config = params.pubkey(0), params.config(1)
        limit = config.get("limit") or _MAX_SIGNATURES
        if not 0 < limit <= _MAX_SIGNATURES:
            raise p.invalid(f"Invalid limit; max {_MAX_SIGNATURES}")
        newest = self._chain.require_slot(p.at_least_confirmed(config), config.get("minContextSlot"))
        before = p.signature(config["before"]) if config.get("before") else None
        until = p.signature(config["until"]) if config.get("until") else None
        rows: list[dict[str, Any]] = []
        waiting = before is not None
        for landed in self._chain.ledger.newest_first(address):
            if waiting:
                waiting = landed.signature != before
                continue
            if landed.signature == until or len(rows) >= limit:
                break
            if landed.slot > newest:
                continue
            rows.append(
                {
                    "blockTime": landed.time_ms // 1000,
                    "confirmationStatus": self.reached(landed),
                    "err": landed.err,
                    "memo": None,
                    "signature": str(landed.signature),
                    "slot": landed.slot,
                }
            )
        return rows

    def request_airdrop(self, params: Params) -> str:
        """Send a transfer from the faucet; its compute price makes each one different."""
        receiver, lamports = params.pubkey(0), params.integer(1)
        chain = self._chain
        self._airdrops += 1
        payer = chain.faucet.pubkey()
        steps = [
            set_compute_unit_price(self._airdrops),
            transfer(TransferParams(from_pubkey=payer, to_pubkey=receiver, lamports=lamports)),
        ]
        message = MessageV0.try_compile(payer, steps, [], chain.latest_blockhash()[0])
        return str(chain.submit(bytes(VersionedTransaction(message, [chain.faucet])), skip_preflight=True))
