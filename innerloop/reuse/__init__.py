"""Rapid learning or feature reuse? What the inner loop does to each layer of a network."""
