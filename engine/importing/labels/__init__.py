"""Known answers, options, and the labels that name them."""
