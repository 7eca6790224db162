"""Moving equity and USDC between chain and broker."""
