"""What makes the files that ship with the package; run from the checkout."""
