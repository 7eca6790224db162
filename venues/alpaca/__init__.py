"""Alpaca: stocks by market orders, with a Trading account or as a Broker for one of its accounts."""
