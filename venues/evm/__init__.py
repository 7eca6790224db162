"""What every venue of contracts stands on: a node's JSON-RPC, calls and logs in bytes, transactions signed and sent once."""
