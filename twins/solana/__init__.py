"""A local Solana chain and its JSON-RPC node."""

from twins.solana.chain import SolanaChain
from twins.solana.rpc import SolanaTwin

__all__ = ["SolanaChain", "SolanaTwin"]
