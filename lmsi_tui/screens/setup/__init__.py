"""The screens that create a project and import questions."""
