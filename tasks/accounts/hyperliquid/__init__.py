"""Users' accounts on Hyperliquid: found, booked by their fills, and guarded by stops that stand there."""
