"""Looking inside: what backpropagation computed, and whether its rules are right."""
