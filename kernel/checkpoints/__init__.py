"""Checkpoints on the disk: write aside, verify, retain, stage. Standard library; either process uses it."""
