"""Numbers that a chain asks for in order, given to attempts: each once."""
