"""Metrics for Prometheus: what the ledger says, read at each scrape."""
