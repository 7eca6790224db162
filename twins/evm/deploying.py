"""The twins' contracts as a node is given them, and the accounts by which the twins themselves act."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_utils import keccak

from twins.evm.node import Node

FOLDER = Path(__file__).parent / "contracts"


@cache
def artefact(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return `abi` and `bytecode` of a contract, as `twins.evm.compile` wrote them."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def deploy(
    node: Node, name: str, sender: str, types: tuple[str, ...] = (), *values: Any, folder: Path = FOLDER
) -> str:
    """Deploy a contract from an account of the node, and return its address. It makes a block."""
    code = artefact(name, folder)["bytecode"] + encode(types, values).hex()
    sent = node.rpc("eth_sendTransaction", {"from": sender, "data": code, "gas": hex(15_000_000)})
    node.rpc("evm_mine")
    receipt = node.rpc("eth_getTransactionReceipt", sent)
    if int(receipt["status"], 16) != 1:
        raise RuntimeError(f"{name} was not deployed")
    return str(receipt["contractAddress"])


def transact(
    node: Node, sender: str, to: str, signature: str, *values: Any, mine: bool = True
) -> dict[str, Any]:
    """Let an account of the node call a function such as `mint(address,uint256)`, and return the receipt. Raises RuntimeError
    where it is refused or reverted.
    """
    call = {
        "from": sender,
        "to": to,
        "data": "0x" + calldata(signature, *values).hex(),
        "gas": hex(3_000_000),
    }
    sent = node.rpc("eth_sendTransaction", call)
    if not mine:
        return {"transactionHash": sent}
    node.rpc("evm_mine")
    receipt: dict[str, Any] = node.rpc("eth_getTransactionReceipt", sent)
    if int(receipt["status"], 16) != 1:
        raise RuntimeError(f"{signature} was reverted")
    return receipt


def calldata(signature: str, *values: Any) -> bytes:
    """Return the bytes of a call."""
    types = [one for one in signature.split("(", 1)[1].removesuffix(")").split(",") if one]
    return bytes(keccak(text=signature)[:4] + encode(types, values))
