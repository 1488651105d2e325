"""Extract, normalize and compare answers."""
