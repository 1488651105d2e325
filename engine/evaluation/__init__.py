"""Accuracy, calibration, the pilot, and the acceptance test that decides on a round."""
