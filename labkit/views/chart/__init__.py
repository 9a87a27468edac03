"""The chart of a matrix: as a picture, as text for a terminal, and as an HTML table."""
