"""The sender of messages as a process, and the commands about channels."""
