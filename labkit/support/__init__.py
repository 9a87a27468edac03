"""Helpers that every room may use: the clock and its scale, checks of arguments, wording, the event loop."""
