"""What the home screen shows: the status of each stage, and snapshots of the current job."""
