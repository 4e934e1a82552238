"""Runs: settings as values, training that survives, results on disk."""
