"""The history of the schema, run by `evenkeel db upgrade`."""
