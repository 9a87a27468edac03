"""One experiment: a handler, a stack, a fault, and what came of it."""
