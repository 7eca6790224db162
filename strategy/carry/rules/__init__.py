"""Rules of the watch over a position, one a file: each holds, alerts or exits, and says why.

A rule that judges a lasting danger also returns its `BreachStep`; the caller stores `since_ms` under `key` and gives it
back with the next readings. Where a figure is missing no rule says that all is well.
"""
