"""Templates, the style sheet and the script of Ladder's pages; each page is one file."""
