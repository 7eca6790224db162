"""What a person asks for from a chat or a page: checked, confirmed, and handed to who can do it."""
