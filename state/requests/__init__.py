"""What people ask for from a chat or a page: written down by processes without a venue's key, done by those that have one."""
