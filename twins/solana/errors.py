"""What the node answers when it refuses: JSON-RPC errors, and transaction errors in a validator's words."""

from __future__ import annotations

from typing import Any

TransactionErr = str | dict[str, Any]
"""A transaction error in its JSON form: "BlockhashNotFound" or {"InstructionError": [0, {"Custom": 1}]}."""

BLOCK_CLEANED_UP = -32001
PREFLIGHT_FAILURE = -32002
SIGNATURE_VERIFICATION_FAILURE = -32003
BLOCK_NOT_AVAILABLE = -32004
NODE_UNHEALTHY = -32005
SLOT_SKIPPED = -32009
UNSUPPORTED_TRANSACTION_VERSION = -32015
MIN_CONTEXT_SLOT_NOT_REACHED = -32016
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
PARSE_ERROR = -32700

_TRANSACTION = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "MaxLoadedAccountsDataSizeExceeded": "Transaction exceeded max loaded accounts data size cap",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
    "TooManyAccountLocks": "Transaction locked too many accounts",
    "UnsupportedVersion": "Transaction version is unsupported",
}
_INSTRUCTION = {
    "AccountAlreadyInitialized": "instruction requires an uninitialized account",
    "AccountNotExecutable": "instruction expected an executable account",
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "ExternalAccountDataModified": "instruction modified data of an account it does not own",
    "ExternalAccountLamportSpend": "instruction spent from the balance of an account it does not own",
    "GenericError": "generic instruction error",
    "IllegalOwner": "Provided owner is not allowed",
    "IncorrectProgramId": "incorrect program id for instruction",
    "InsufficientFunds": "insufficient funds for instruction",
    "InvalidAccountData": "invalid account data for instruction",
    "InvalidAccountOwner": "Invalid account owner",
    "InvalidArgument": "invalid program argument",
    "InvalidInstructionData": "invalid instruction data",
    "InvalidSeeds": "Provided seeds do not result in a valid address",
    "MissingAccount": "An account required by the instruction is missing",
    "MissingRequiredSignature": "missing required signature for instruction",
    "NotEnoughAccountKeys": "insufficient account keys for instruction",
    "PrivilegeEscalation": "Cross-program invocation with unauthorized signer or writable account",
    "ProgramFailedToComplete": "Program failed to complete",
    "ReadonlyLamportChange": "instruction changed the balance of a read-only account",
    "UninitializedAccount": "instruction requires an initialized account",
    "UnsupportedProgramId": "Unsupported program id",
}


class RpcError(Exception):
    """A JSON-RPC error object: code, message and, where the node sends it, data."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


def instruction_error(index: int, custom: int) -> TransactionErr:
    return {"InstructionError": [index, {"Custom": custom}]}


def failed_index(err: TransactionErr | None) -> int | None:
    """Return the index of the instruction that failed, None where no instruction did."""
    if isinstance(err, dict) and "InstructionError" in err:
        return int(err["InstructionError"][0])
    return None


def worded(err: TransactionErr) -> str:
    """Return the validator's sentence for a transaction error."""
    if isinstance(err, str):
        return _TRANSACTION.get(err, err)
    kind, detail = next(iter(err.items()))
    if kind == "InstructionError":
        index, inner = detail
        if isinstance(inner, dict):
            inner_kind, inner_detail = next(iter(inner.items()))
            text = f"custom program error: {inner_detail:#x}" if inner_kind == "Custom" else str(inner_detail)
        else:
            text = _INSTRUCTION.get(inner, inner)
        return f"Error processing Instruction {index}: {text}"
    if kind == "InsufficientFundsForRent":
        return (
            f"Transaction results in an account ({detail['account_index']}) with insufficient funds for rent"
        )
    if kind == "DuplicateInstruction":
        return f"Transaction contains a duplicate instruction ({detail}) that is not allowed"
    return f"{kind}: {detail}"
