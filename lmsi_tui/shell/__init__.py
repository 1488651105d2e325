"""The parts of the app besides its screens: commands, keys, configuration, the open project."""
