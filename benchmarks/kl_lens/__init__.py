"""KL Lens on small state-space models: plans guided by KL, by SQNR and by a rule, measured."""
