"""Majority votes over sampled answers, early stopping, and thresholds."""
