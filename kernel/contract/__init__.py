"""What launcher and kernel both read: configuration, events, manifest, result. Standard library."""
