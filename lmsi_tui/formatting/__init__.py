"""Results, states and numbers as text, and text made safe for the terminal."""
