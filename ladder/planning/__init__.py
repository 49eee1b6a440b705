"""Plans: a type for each site within a budget. Start reading at ``make``."""
