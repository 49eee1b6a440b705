"""What a user may ask for. Nothing is imported here: the command line stays light."""
