"""One file a verb: words and tables around `launcher.runs`."""
