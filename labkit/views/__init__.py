"""Views: the events of a timeline as a picture, as text for a terminal, and in words.

This file imports nothing, because matplotlib takes half a second to load. Only the views that draw a picture load it;
the text, the alternative text and the source do not. A view reads data; it opens no socket and runs no handler.
"""
