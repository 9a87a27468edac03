"""Views: what the events of a timeline look like, in a picture, in a terminal and in words.

Nothing is imported here: matplotlib, which takes half a second, is loaded when a picture is drawn, and not by the
text, the alternative text or the source. A view reads data; it opens no socket and runs no handler.
"""
