"""The options of a user. Nothing is imported here, so that the command line starts fast."""
