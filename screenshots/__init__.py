"""Scripts that draw the screenshots and the key tables of the documentation."""
