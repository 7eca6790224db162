"""The same script on a real node: the order book is a contract there, tokens are contracts, and blocks are mined when asked."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from twins.evm.deploying import artefact, deploy, transact
from twins.evm.interface import Interface
from twins.evm.node import Node
from twins.raindex.floats import float_of, units_of
from twins.raindex.logs import Act, Book, Paid, Take
from twins.raindex.market import STOCK_VAULT, USDC_VAULT, Market, Move, Token

FOLDER = Path(__file__).parent / "contracts"
MOST_GAS = 2**40
MOST_ACTS = 32
"""What one `multicall` of the contract takes."""


class NodeChain:
    """The node's blocks, as a market asks for them. A transaction that a reorganisation lost is in no block any more."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sent: list[str] = []

    @property
    def placed(self) -> dict[str, int]:
        """Block of each transaction, as the node has it now."""
        found = {}
        for one in self.sent:
            if receipt := self.node.rpc("eth_getTransactionReceipt", one):
                found[one] = int(receipt["blockNumber"], 16)
        return found

    def height(self) -> int:
        return int(self.node.rpc("eth_blockNumber"), 16)

    def at_ms(self, number: int) -> int:
        """Return a block's own time."""
        return int(self.node.rpc("eth_getBlockByNumber", hex(number), False)["timestamp"], 16) * 1000

    def logs(self, hash_: str) -> list[dict[str, Any]]:
        """Return the logs of a transaction."""
        rows: list[dict[str, Any]] = self.node.rpc("eth_getTransactionReceipt", hash_)["logs"]
        return rows


class ContractMarket(Market):
    """One order book on a node, deployed by the node's first account; its second is our orders' owner, its third takes."""

    def __init__(self, node: Node, symbols: list[str]) -> None:
        accounts = [str(one).lower() for one in node.rpc("eth_accounts")]
        self.issuer, owner, self.taker = accounts[:3]
        self.node = node
        self.chain = NodeChain(node)
        self._interface = Interface(artefact("orderbook", FOLDER)["abi"])
        tokens = {symbol: Token(self._deployed("wrapped", ("string",), symbol), symbol) for symbol in symbols}
        tokens["USDC"] = Token(deploy(node, "usdc", self.issuer).lower(), "USDC", 6)
        super().__init__(self.chain, Book(self._deployed("orderbook")), owner, tokens)

    def _deployed(self, name: str, types: tuple[str, ...] = (), *values: Any) -> str:
        return deploy(self.node, name, self.issuer, types, *values, folder=FOLDER).lower()

    def _put(self, sender: str, acts: list[Act], at_ms: int | None, block: int | None) -> str:
        """Send one transaction, and mine it. ValueError for what a real node cannot do: a block of one's choice."""
        if (
            at_ms is not None
            or block is not None
            or any(isinstance(act, Paid) for act in acts)
            or len(acts) > MOST_ACTS
        ):
            raise ValueError(f"a real node takes at most {MOST_ACTS} takes and clears, in its next block")
        hash_ = self.send(acts)
        self.node.rpc("evm_mine")
        if int(self.node.rpc("eth_getTransactionReceipt", hash_)["status"], 16) != 1:
            raise RuntimeError("the script's transaction was reverted")
        return hash_

    def send(self, acts: list[Act]) -> str:
        """Put one transaction into the node's pool, to be mined with the next block, and return its hash."""
        calls = [bytes.fromhex(self._call(act)[2:]) for act in acts]
        data = self._interface.call("multicall", calls)
        sent = {"from": self.taker, "to": self.book.address, "data": data, "gas": hex(MOST_GAS)}
        hash_ = str(self.node.rpc("eth_sendTransaction", sent))
        self.chain.sent.append(hash_)
        return hash_

    def _call(self, act: Act) -> str:
        if isinstance(act, Take):
            return self._interface.call("take", act.config, act.taker_input, act.taker_output)
        assert not isinstance(act, Paid)
        return self._interface.call("clear", act.alice.values, act.bob.values, act.config, act.change)

    def set_ratio(self, symbol: str, ratio: Decimal) -> None:
        """Let a token be worth so many shares from the next block on."""
        token = self.tokens[symbol]
        transact(self.node, self.issuer, token.address, "set_ratio(uint256)", units_of(ratio, 18))
        token.ratios.append((self.chain.height(), ratio))

    def move_vault(
        self, symbol: str, tokens: Decimal, owner: str | None = None, number: int | None = None
    ) -> str:
        """Deposit into our vault (above 0), of tokens that are made for it, or withdraw from it."""
        token, book = self.tokens[symbol], self.book.address
        vault = USDC_VAULT if symbol == "USDC" else STOCK_VAULT
        units, amount = units_of(tokens.copy_abs(), token.decimals), float_of(tokens.copy_abs())
        holder = owner or self.owner
        if tokens > 0:
            transact(self.node, self.issuer, token.address, "mint(address,uint256)", holder, units)
            transact(self.node, holder, token.address, "approve(address,uint256)", book, units)
        data = self._interface.call(
            "deposit4" if tokens > 0 else "withdraw4", token.address, vault, amount, []
        )
        hash_ = str(
            self.node.rpc(
                "eth_sendTransaction", {"from": holder, "to": book, "data": data, "gas": hex(3_000_000)}
            )
        )
        self.node.rpc("evm_mine")
        if int(self.node.rpc("eth_getTransactionReceipt", hash_)["status"], 16) != 1:
            raise RuntimeError("the vault's move was reverted")
        self.chain.sent.append(hash_)
        self.moves.append(Move(hash_, holder, token.address, vault, tokens))
        return hash_
