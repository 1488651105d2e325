"""Sample the paths of a run, count their votes, and find the run that belongs to the settings."""
