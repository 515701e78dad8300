"""Two-class ARZ traffic solver and the signal-control environment on it."""
