"""A thin JSON-RPC client for Solana: reads are retried a little, a send is answered in three values.

Our own and not `solana.rpc.AsyncClient`, because that one answers an unknown error code with a bare int,
panics past `except Exception` on errors without data, and reports a landed but failed transaction as
confirmed (seen in solana 0.41).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pydantic import BaseModel, Field

from evenkeel.errors import NOT_NOW, UNREAD, NotUnderstood
from evenkeel.types import Answer, Confirmed, Rejected, Unknown
from venues.jsonrpc import JsonRpc, RpcError, typed
from venues.reading import Number, Whole
from venues.solana.answers import (
    AccountInfo,
    EpochInfo,
    Landing,
    LatestBlockhash,
    PerformanceSample,
    PrioritizationFee,
    SignatureStatus,
    Statuses,
)

NAME = "solana rpc"
LANDED_ROWS = 1000
"""Most that the node gives at once."""
BLOCKHASH_LIFE_BLOCKS = 150
COMMITMENT = "confirmed"
"""At which balances and accounts are read."""
MAX_SUPPORTED_VERSION = 1  # reading a v1 transaction with 0 fails the whole call (-32015)
RETRYABLE_CODES = frozenset({429, -32429, -32603, -32004, -32005, -32007, -32014, -32016})
SIGNATURE_VERIFICATION_FAILED = -32003
INVALID_PARAMS = -32602
OF_EVERYBODY = frozenset({"getBlockHeight", "getRecentPrioritizationFees", "getRecentPerformanceSamples"})
"""What the chain answers alike to everybody, and what is only ever waited for: an older answer proves no less."""


class _FeeRow(BaseModel):
    slot: Whole
    fee: Whole = Field(alias="prioritizationFee", ge=0)


class _SampleRow(BaseModel):
    slot: Whole
    slots: Whole = Field(alias="numSlots", gt=0)
    period_s: Number = Field(alias="samplePeriodSecs", gt=0)


class SolanaRpc(JsonRpc):
    """One node."""

    name = NAME
    retryable_codes = RETRYABLE_CODES
    of_everybody = OF_EVERYBODY

    async def send_transaction(
        self, raw: bytes, *, skip_preflight: bool = False, max_retries: int | None = None
    ) -> Answer[str]:
        """Hand signed bytes to the node. Confirmed(signature) = the node took them, which is not yet a
        landing.

        Rejected only where these bytes can never execute anywhere: a signature that does not verify, or a
        payload that is too large. A failed preflight is Unknown: the same bytes may already be on their way
        by another way.
        """
        config: dict[str, Any] = {
            "encoding": "base64",
            "skipPreflight": skip_preflight,
            "preflightCommitment": "confirmed",
        }
        if max_retries is not None:
            config["maxRetries"] = max_retries
        try:
            answer = await self.call("sendTransaction", [base64.b64encode(raw).decode(), config])
        except NOT_NOW as error:
            return Unknown(str(error))
        except RpcError as error:
            if error.code == SIGNATURE_VERIFICATION_FAILED or (
                error.code == INVALID_PARAMS and "too large" in error.message
            ):
                return Rejected(str(error))
            return Unknown(str(error), answered=not error.is_shut_out)
        return Confirmed(str(answer))

    @typed(NAME)
    async def get_latest_blockhash(self, commitment: str = "processed") -> LatestBlockhash:
        answer = await self.read("getLatestBlockhash", [{"commitment": commitment}])
        value = answer["value"]
        return LatestBlockhash(
            value["blockhash"], int(value["lastValidBlockHeight"]), int(answer["context"]["slot"])
        )

    @typed(NAME)
    async def get_block_height(self, commitment: str = "finalized") -> int:
        return int(await self.read("getBlockHeight", [{"commitment": commitment}]))

    @typed(NAME)
    async def get_slot(self, commitment: str = "processed") -> int:
        return int(await self.read("getSlot", [{"commitment": commitment}]))

    @typed(NAME)
    async def get_epoch_info(self, commitment: str = "finalized") -> EpochInfo:
        """Return the slot and block height of one and the same bank, unlike `getSlot` followed by `getBlockHeight`."""
        answer = await self.read("getEpochInfo", [{"commitment": commitment}])
        return EpochInfo(int(answer["epoch"]), int(answer["absoluteSlot"]), int(answer["blockHeight"]))

    @typed(NAME)
    async def get_blocks(self, first: int, last: int) -> list[int]:
        """Return the slots from `first` to `last` that hold a finalized block, in order."""
        answer = await self.read("getBlocks", [first, last, {"commitment": "finalized"}])
        return sorted({slot for slot in map(int, answer) if first <= slot <= last})

    @typed(NAME)
    async def get_block_time(self, slot: int) -> int:
        """Return the second, UTC, at which the chain says that the block of a slot was made."""
        return int(await self.read("getBlockTime", [slot]))

    @typed(NAME)
    async def get_landed(self, address: str, min_slot: int) -> list[Landing]:
        """Return the latest finalized transactions of an address, newest first. A node short of `min_slot` refuses."""
        config = {"limit": LANDED_ROWS, "commitment": "finalized", "minContextSlot": min_slot}
        rows = await self.read("getSignaturesForAddress", [address, config])
        return [Landing(str(one["signature"]), int(one["slot"]), one.get("err")) for one in rows]

    @typed(NAME)
    async def get_signature_statuses(self, signatures: list[str], *, history: bool) -> Statuses:
        answer = await self.read("getSignatureStatuses", [signatures, {"searchTransactionHistory": history}])
        found = [None if one is None else SignatureStatus.of(one) for one in answer["value"]]
        if len(found) != len(signatures):
            text = f"{len(found)} statuses for {len(signatures)} signatures at {self.host}"
            raise NotUnderstood(NAME, text)
        return Statuses(int(answer["context"]["slot"]), found)

    @typed(NAME)
    async def get_transaction(self, signature: str, commitment: str = "confirmed") -> dict[str, Any] | None:
        """Return the landed transaction with its metadata (`meta.err`, `meta.fee`, token balances), or None."""
        config = {
            "encoding": "json",
            "commitment": commitment,
            "maxSupportedTransactionVersion": MAX_SUPPORTED_VERSION,
        }
        found = await self.read("getTransaction", [signature, config])
        return found if isinstance(found, dict) else None

    @typed(NAME)
    async def get_transaction_in_block(self, slot: int, signature: str) -> dict[str, Any] | None:
        """Return the same as `get_transaction`, out of the whole block: some megabytes, for a node whose other answer cannot be
        had or read. None where the block has no such transaction.
        """
        config = {
            "encoding": "json",
            "transactionDetails": "full",
            "rewards": False,
            "commitment": COMMITMENT,
            "maxSupportedTransactionVersion": MAX_SUPPORTED_VERSION,
        }
        block = await self.read("getBlock", [slot, config])
        for one in block["transactions"]:
            if one["transaction"]["signatures"][0] == signature:
                return {**one, "slot": slot, "blockTime": block.get("blockTime")}
        return None

    @typed(NAME)
    async def get_balance(self, pubkey: str) -> int:
        """Return lamports of an account."""
        return int((await self.read("getBalance", [pubkey, {"commitment": COMMITMENT}]))["value"])

    async def get_multiple_accounts(self, pubkeys: list[str]) -> list[AccountInfo | None]:
        """Return the accounts in the order in which they were asked for; one after the other where not together."""
        try:
            return (await self._accounts_together(pubkeys))[1]
        except UNREAD as fault:
            try:
                return [(await self.get_account_at(key, 0, COMMITMENT))[1] for key in pubkeys]
            except UNREAD:
                raise fault from None

    @typed(NAME)
    async def get_accounts_at(self, pubkeys: list[str]) -> tuple[int, list[AccountInfo | None]]:
        """Return the slot of the answer, and at most 100 accounts as they stood there, in the order asked for."""
        answer, found = await self._accounts_together(pubkeys)
        return int(answer["context"]["slot"]), found

    @typed(NAME)
    async def _accounts_together(self, pubkeys: list[str]) -> tuple[dict[str, Any], list[AccountInfo | None]]:
        config = {"encoding": "base64", "commitment": COMMITMENT}
        answer = await self.read("getMultipleAccounts", [pubkeys, config])
        rows = answer["value"][: len(pubkeys)]
        if len(rows) < len(pubkeys):
            text = f"{len(rows)} accounts of {len(pubkeys)} at {self.host}"
            raise NotUnderstood(NAME, text)
        return answer, [None if one is None else self._account(one) for one in rows]

    @typed(NAME)
    async def get_account(self, pubkey: str) -> AccountInfo | None:
        return (await self.get_multiple_accounts([pubkey]))[0]

    @typed(NAME)
    async def get_account_at(
        self, pubkey: str, min_slot: int, commitment: str = "finalized"
    ) -> tuple[int, AccountInfo | None]:
        """Return the slot of the answer, and the account as it stood there. A node that has not come to `min_slot` refuses."""
        config: dict[str, Any] = {"encoding": "base64", "commitment": commitment}
        if min_slot:
            config["minContextSlot"] = min_slot
        answer = await self.read("getAccountInfo", [pubkey, config])
        found = answer["value"]
        return int(answer["context"]["slot"]), None if found is None else self._account(found)

    @typed(NAME)
    async def get_token_accounts(self, owner: str, mint: str) -> list[tuple[str, AccountInfo]]:
        """Return (address, account) of every token account of this owner and mint."""
        config = {"encoding": "base64", "commitment": COMMITMENT}
        answer = await self.read("getTokenAccountsByOwner", [owner, {"mint": mint}, config])
        return [(one["pubkey"], self._account(one["account"])) for one in answer["value"]]

    @typed(NAME)
    async def get_recent_prioritization_fees(self, writable: list[str]) -> list[PrioritizationFee]:
        """Return per cached block the lowest fee that landed while locking these accounts, in micro-lamports per unit."""
        answer = await self.read("getRecentPrioritizationFees", [writable[:128]])
        rows: list[_FeeRow] = self._rows("getRecentPrioritizationFees", list[_FeeRow], answer)
        return [PrioritizationFee(one.slot, one.fee) for one in rows]

    @typed(NAME)
    async def get_recent_performance_samples(self, limit: int = 5) -> list[PerformanceSample]:
        answer = await self.read("getRecentPerformanceSamples", [limit])
        rows: list[_SampleRow] = self._rows("getRecentPerformanceSamples", list[_SampleRow], answer)
        return [PerformanceSample(one.slot, one.slots, float(one.period_s)) for one in rows]

    @typed(NAME)
    async def get_minimum_balance_for_rent_exemption(self, size_bytes: int) -> int:
        """Return the lamports; asked every time, since rent is being lowered in steps."""
        return int(await self.read("getMinimumBalanceForRentExemption", [size_bytes]))

    def _rows(self, method: str, shape: Any, answer: Any) -> Any:
        """The rows that can be read."""
        return self.oddities.read(NAME, f"solana {method}", shape, answer, part="row").value

    def _account(self, one: dict[str, Any]) -> AccountInfo:
        data, encoding = one["data"]
        if encoding != "base64":
            raise NotUnderstood(NAME, f"account data at {self.host}: not base64")
        try:
            content = base64.b64decode(data, validate=True)
            return AccountInfo(
                str(one["owner"]), int(one["lamports"]), content, bool(one.get("executable", False))
            )
        except (binascii.Error, ValueError):
            raise NotUnderstood(NAME, f"account data at {self.host}: not base64") from None
