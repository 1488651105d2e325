"""Training sets: which questions and paths they hold, what they are as tokens, and their origin."""
