"""What is known of processors: targets, devices, instruction budgets. Nothing is imported here."""
