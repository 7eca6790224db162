"""The web pages of `evenkeel desk`: what the ledger says, read only but for what a person acknowledges."""
