"""stable-baselines3 as a learner: its algorithms, its state, its replay buffer."""
