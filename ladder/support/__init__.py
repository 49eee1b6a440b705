"""What knows nothing of models: the cache, files, progress, packages, threads."""
