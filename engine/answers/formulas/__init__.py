"""Read formulas in LaTeX, write them in one notation, and compare their values."""
