"""The quality of a model on a text, and the report page of an artifact."""
