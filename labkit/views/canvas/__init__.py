"""What all pictures have in common: the figure, its colours, the width of texts, and matplotlib's artists."""
