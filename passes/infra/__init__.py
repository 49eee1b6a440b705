"""What all passes share: the contract, the runner, the registry, name patterns."""
