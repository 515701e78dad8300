"""kaglaunch, the part that runs inside a session: supervisor, trainer, checkpoints, publishing."""
