"""Drills on paper trading as `make up` starts it: a fresh start with an entry by the form of Prefect's UI, and kills."""
