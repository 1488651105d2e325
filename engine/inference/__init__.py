"""Inference: tokenize prompts and sample reasoning paths, with one interface for all engines."""
