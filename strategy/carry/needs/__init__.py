"""What an exit needs, one need a file: each is judged from readings alone, and says how it stands and what to do.

No need ever closes anything. What it finds is an alert while a position is open, a refusal of entries where it says so,
and a line of `evenkeel doctor`.
"""
