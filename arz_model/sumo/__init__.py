"""Import of SUMO networks: what is read, and the scenario that comes of it."""
