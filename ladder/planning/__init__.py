"""Plans: which site gets which type under a wish. ``make`` is the way through it."""
