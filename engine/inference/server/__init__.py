"""Inference on OpenAI-compatible servers."""
