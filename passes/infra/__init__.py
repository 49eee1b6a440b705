"""What every pass rests on: the contract, the runner, the registry, name patterns."""
