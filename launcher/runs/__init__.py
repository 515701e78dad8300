"""A run as an object, and what can be done with it. No terminal here: words and tables are `launcher.commands`'."""
