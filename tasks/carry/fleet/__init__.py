"""What the watches of one process share: what is written and asked for all of them at once."""
