"""Orders that go nowhere: the whole business without a broker."""
