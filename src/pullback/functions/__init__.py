"""What users call: thin names over ops, and composites of them."""
