"""The trainer process: learn, restore, checkpoint."""
