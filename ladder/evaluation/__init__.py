"""Quality of a model on a text, and the page that reports it."""
