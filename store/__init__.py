"""The database of a project: records, queries and migrations; it knows nothing of models."""
