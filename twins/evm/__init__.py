"""A real EVM node on loopback, behind a door that names its calls, keeps a journal of them and carries the fault plan."""
