"""The venue's contracts on a node: deployed, made known to each other, and with pairs to trade."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_utils import keccak

from twins.evm.deploying import artefact, deploy
from twins.evm.interface import Interface
from twins.evm.node import Node
from twins.ostium.pairs import PAIRS, Pair

CONTRACTS = Path(__file__).parent / "contracts"
NAMES = {
    "trading": ("trading",),
    "storage": ("tradingStorage",),
    "callbacks": ("callbacks",),
    "pairs": ("pairsStorage",),
    "infos": ("pairInfos",),
    "prices": ("priceRouter", "tradesUpKeep", "cryptoPriceUpkeep"),
    "vault": ("vault",),
}
"""By artefact, the names under which the registry knows a contract."""
MILLION = 1_000_000
VAULT_USDC = 10_000_000
MOST_COLLATERAL_USDC = 1_000_000
TIMEOUT_BLOCKS = 30
"""For orders at the market, and for what the keeper has begun."""
GAS = 8_000_000


@cache
def interface(name: str) -> Interface:
    """Return the interface of one of the venue's contracts, by the name of its artefact."""
    return Interface(artefact(name, CONTRACTS)["abi"])


@dataclass(frozen=True)
class Deployment:
    """Addresses in lower case, by the name of the artefact; `usdc` among them. `owner` governs, `keeper` settles."""

    node: Node
    owner: str
    keeper: str
    at: dict[str, str]

    def send(
        self, name: str, function: str, *values: Any, sender: str | None = None, mine: bool = True
    ) -> dict[str, Any]:
        """Let an account of the node (the owner) call a contract, and return the receipt. It makes a block; with `mine` False
        it waits for the next one and returns the hash alone. Raises RuntimeError where it is reverted.
        """
        call = {"from": sender or self.owner, "to": self.at[name], "gas": hex(GAS)}
        call["data"] = interface(name).call(function, *values)
        sent = self.node.rpc("eth_sendTransaction", call)
        if not mine:
            return {"transactionHash": sent}
        self.node.rpc("evm_mine")
        receipt: dict[str, Any] = self.node.rpc("eth_getTransactionReceipt", sent)
        if int(receipt["status"], 16) != 1:
            raise RuntimeError(f"{name}.{function} was reverted")
        return receipt

    def read(self, name: str, function: str, *values: Any, block: str = "latest") -> Any:
        """Return what a call answers now, or answered at a block."""
        data = interface(name).call(function, *values)
        return interface(name).answer(
            function, self.node.rpc("eth_call", {"to": self.at[name], "data": data}, block)
        )

    def usdc_units(self, owner: str) -> int:
        data = "0x" + (keccak(text="balanceOf(address)")[:4] + bytes(12) + bytes.fromhex(owner[2:])).hex()
        return int(self.node.rpc("eth_call", {"to": self.at["usdc"], "data": data}, "latest"), 16)

    def list_pair(self, pair: Pair) -> None:
        """Make a pair tradable by its own figures."""
        listed = (
            pair.base.encode().ljust(32, b"\0"),
            pair.quote.encode().ljust(32, b"\0"),
            pair.feed,
            100,
            pair.max_leverage * 100,
            pair.overnight_leverage * 100,
            pair.min_notional_usdc * MILLION,
            100_000,
            10_000_000 * MILLION,
        )
        self.send("pairs", "setPair", pair.index, listed)
        self.send("infos", "setPairOpeningFees", pair.index, (30_000, pair.taker_fee, 0, 0, 2_000, 0))
        self.send("storage", "setMaxOpenInterest", pair.index, 20_000_000 * MILLION)
        rollover = (0, 0, pair.carry_per_block, pair.premium_per_block, 10**11, 0, True)
        self.send("infos", "setPairRolloverFees", pair.index, rollover)


def deployed(node: Node, usdc: str, owner: str, keeper: str) -> Deployment:
    """Deploy the venue beside a dollar whose issuer is the owner, who pays the vault's first assets. Owner and keeper are
    accounts of the node.
    """

    def made(name: str, types: tuple[str, ...] = (), *values: Any) -> str:
        return deploy(node, name, owner, types, *values, folder=CONTRACTS).lower()

    registry = made("registry")
    at = {"registry": registry, "usdc": usdc.lower()}
    for name in ("pairs", "infos", "prices", "callbacks"):
        at[name] = made(name, ("address",), registry)
    for name in ("storage", "vault"):
        at[name] = made(name, ("address", "address"), registry, usdc)
    limits = (MOST_COLLATERAL_USDC * MILLION, TIMEOUT_BLOCKS, TIMEOUT_BLOCKS)
    at["trading"] = made("trading", ("address", "uint256", "uint16", "uint16"), registry, *limits)
    venue = Deployment(node, owner, keeper, at)
    for artefact_name, names in NAMES.items():
        for name in names:
            venue.send("registry", "setContractAddress", name.encode().ljust(32, b"\0"), at[artefact_name])
    venue.send("prices", "registerForwarder", keeper)
    venue.send("callbacks", "setVaultMaxAllowance")
    for pair in PAIRS:
        venue.list_pair(pair)
    return venue
