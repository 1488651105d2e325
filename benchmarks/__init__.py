"""Measurements of speed, memory and gains, run by hand; their results are in the docs."""
