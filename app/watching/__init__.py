"""The process that watches every account."""
