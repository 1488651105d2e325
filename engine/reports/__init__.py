"""Reports on a project: a short summary, the tree of models, and the full report with charts."""
