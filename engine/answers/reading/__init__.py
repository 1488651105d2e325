"""Find what a path states or concludes, outside its thoughts."""
