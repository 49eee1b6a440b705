"""Functions of models that are replaced while they are traced, one file for each kind."""
