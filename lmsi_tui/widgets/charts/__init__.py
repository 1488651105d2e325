"""Charts and bars of text characters."""
