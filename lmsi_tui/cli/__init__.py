"""The command line: its grammar, its commands and their output."""
