"""Two programs of each kind of fault, and healthy ones."""
