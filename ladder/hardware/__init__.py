"""Facts about processors: targets, devices, instruction budgets. Nothing is imported here."""
