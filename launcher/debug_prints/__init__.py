"""Output that would flood a log: found, rewritten, put back."""
