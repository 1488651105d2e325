"""Models and training sets in other formats: GGUF, Hugging Face folders, and exports."""
