"""`evenkeel accounts serve`: what programs and users ask of managed accounts over HTTP, and the pages for users."""
