"""The commands of hedged market making."""
