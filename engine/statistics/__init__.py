"""Confidence intervals, paired tests and the confidence sequence of audits; no I/O."""
