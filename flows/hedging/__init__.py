"""The stories of hedged market making."""
