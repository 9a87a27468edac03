"""What a handler leaves behind: what it has started, opened or set, until that has ended or been closed."""
