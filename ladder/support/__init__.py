"""Code that does not depend on models: the cache, files, progress, packages, threads."""
