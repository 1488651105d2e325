"""Prefix-tree packing: training examples as rows of tokens that hold each shared prefix once."""
