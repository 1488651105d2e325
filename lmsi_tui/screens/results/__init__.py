"""The screens of training sets, results and flips."""
