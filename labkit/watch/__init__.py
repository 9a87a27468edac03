"""Watches a handler from outside: its calls, its lines, its cancels, what the library tells it."""
