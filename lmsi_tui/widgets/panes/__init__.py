"""The panes of the home screen."""
