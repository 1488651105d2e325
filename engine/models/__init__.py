"""Models on disk: identity, metadata, and GGUF files."""
