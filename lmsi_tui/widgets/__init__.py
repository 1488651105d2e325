"""The widgets of the screens, and the texts that they show."""
