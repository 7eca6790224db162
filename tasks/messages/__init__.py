"""Messages to people: composed from the outbox, and delivered once by each channel."""
