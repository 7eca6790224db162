"""The 32 bytes that are signed for an action, by the official SDK's pure functions and EIP-712.

Apart from the signer, because what it needs takes a fifth of a second to load: a command that signs nothing goes without,
and what trades loads it beforehand (`tasks.carry.legs`), not with its first order.
"""

from __future__ import annotations

from typing import Any

from eth_account.messages import encode_typed_data
from eth_utils import keccak
from hyperliquid.utils import signing as sdk_signing

from evenkeel.errors import Bug

_NOBODY = "0x" + "0" * 40
_TRANSFER_CHAIN_ID = 421_614
_TRANSFERS = {
    "withdraw3": (sdk_signing.WITHDRAW_SIGN_TYPES, "HyperliquidTransaction:Withdraw"),
    "usdSend": (sdk_signing.USD_SEND_SIGN_TYPES, "HyperliquidTransaction:UsdSend"),
}


def l1_digest(action: dict[str, Any], *, nonce: int, expires_after: int | None, is_mainnet: bool) -> bytes:
    """The 32 bytes that are signed for an L1 action (order, cancel, leverage): EIP-712 over the phantom agent.

    Hyperliquid docs, "Signing": domain Exchange, chain id 1337; source "a" on mainnet, "b" elsewhere.
    """
    connection = sdk_signing.action_hash(action, None, nonce, expires_after)
    payload = sdk_signing.l1_payload(sdk_signing.construct_phantom_agent(connection, is_mainnet))
    source = "a" if is_mainnet else "b"
    _check_domain(payload, "Exchange", 1337, "Agent", {"source": source, "connectionId": connection})
    return _digest(payload)


def transfer_digest(action: dict[str, Any], *, is_mainnet: bool) -> bytes:
    """The 32 bytes that are signed for a withdrawal or transfer of USDC: EIP-712 over the action's own fields."""
    fields, primary = _TRANSFERS[action["type"]]
    if action["hyperliquidChain"] != ("Mainnet" if is_mainnet else "Testnet"):
        raise Bug(f"a transfer for {action['hyperliquidChain']} reached the signer of another network")
    payload = sdk_signing.user_signed_payload(primary, fields, action)
    _check_domain(payload, "HyperliquidSignTransaction", _TRANSFER_CHAIN_ID, primary, action)
    return _digest(payload)


def _check_domain(payload: dict[str, Any], name: str, chain_id: int, primary: str, message: Any) -> None:
    """What the library built is what we meant: a changed library must not change what a signature is good for."""
    domain = {"name": name, "version": "1", "chainId": chain_id, "verifyingContract": _NOBODY}
    found = (payload["domain"], payload["primaryType"], payload["message"])
    if found != (domain, primary, message):
        raise Bug(f"the typed data to be signed is not of domain {name}, chain {chain_id}, type {primary}")


def _digest(payload: dict[str, Any]) -> bytes:
    """EIP-191 over EIP-712: keccak(0x19, version, header, body)."""
    signable = encode_typed_data(full_message=payload)
    return bytes(keccak(b"\x19" + signable.version + signable.header + signable.body))
