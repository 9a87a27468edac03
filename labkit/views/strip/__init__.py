"""The strip: one fault at each moment of a handler."""
