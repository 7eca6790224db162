"""The Asgard twin: margin positions on Solana lending protocols behind the vendor's REST interface."""

from twins.asgard.app import AsgardTwin

__all__ = ["AsgardTwin"]
