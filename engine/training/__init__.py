"""Training a model on a frozen set: fine-tuning and distillation, in one process or several."""
