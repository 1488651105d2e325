"""Read questions and sampled outputs from files, and find contaminated questions."""
