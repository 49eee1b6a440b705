"""Fuzzers: seeded changes of every kind of file that Ladder reads, and random graphs."""
