"""The demo project: embedded models and generated questions."""
