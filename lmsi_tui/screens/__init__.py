"""The screens of the app: what is drawn in the terminal, and what its keys do."""
