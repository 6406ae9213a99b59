"""From a graph to kernels in order, and to the memory they need."""
