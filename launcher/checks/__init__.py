"""What a push must know before anything is spent."""
