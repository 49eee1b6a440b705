"""Plans: which site gets which type within a budget. ``make`` is the way through it."""
