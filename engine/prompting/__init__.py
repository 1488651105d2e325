"""Prompts: task presets, worked examples, and the text or chat that a question becomes."""
