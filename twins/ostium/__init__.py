"""The twin of Ostium: the venue's contracts on the EVM node, a keeper that settles, its subgraph and its prices."""
