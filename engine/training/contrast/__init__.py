"""Training on winning against losing paths of one question: losses, passes, objective."""
