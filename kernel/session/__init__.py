"""The parent process of a session: it outlives every trainer. No numpy, no torch."""
