"""A third set, written blind like the fresh one: other tasks, other forms of the faults."""
