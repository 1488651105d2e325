"""Inference with Hugging Face transformers, from folders of safetensors."""
