"""Small language models, trained on texts that packages hold."""
