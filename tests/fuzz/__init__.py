"""Every field of every answer changed in every way that a venue may change it one day."""
