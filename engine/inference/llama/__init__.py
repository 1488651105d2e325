"""Inference with llama.cpp, from GGUF files."""
