"""Looks into running Python code: whose it is, where it waits, who made what."""
