"""Wallets that are contracts: no key signs as they, and they are asked whether a signature is theirs (EIP-1271)."""

from __future__ import annotations

from evenkeel.errors import NotUnderstood
from venues.evm.codec import Function
from venues.evm.rpc import EvmRpc
from venues.jsonrpc import RpcError

IS_VALID_SIGNATURE = Function("isValidSignature", ("bytes32", "bytes"), ("bytes4",))
OF_A_KEY = bytes.fromhex("ef0100")
"""How the code of an account begins whose key signs as before and that runs another's code (EIP-7702)."""
NOT_THERE_YET = bytes.fromhex("6492") * 16
"""The end of a signature by a contract that is not on the chain yet (ERC-6492)."""


async def is_contract(rpc: EvmRpc, account: str) -> bool:
    """Return whether an account is a contract, so that no key signs as it. Raises UNREAD."""
    code = await rpc.code(account)
    return bool(code) and not code.startswith(OF_A_KEY)


async def confirms(rpc: EvmRpc, account: str, digest: bytes, signature: bytes) -> bool:
    """Return whether a contract says that a signature of a digest is its own: by the answer that the standard names, and no
    other. One that reverts, or answers something else, says no. Raises UNREAD where the chain cannot be asked.
    """
    try:
        said = await rpc.view(account, IS_VALID_SIGNATURE.call(digest, signature))
        return bool(IS_VALID_SIGNATURE.answer(said) == IS_VALID_SIGNATURE.selector)
    except RpcError as error:
        if error.is_shut_out:
            raise
        return False
    except NotUnderstood:
        return False
