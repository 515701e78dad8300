"""Signal control: scenarios, signals, observations, rewards and the environment."""
