"""A project's folder and settings, and the context of its running jobs."""
