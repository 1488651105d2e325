"""The canonical form of an answer of each type."""
