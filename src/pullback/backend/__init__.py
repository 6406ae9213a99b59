"""From a plan to a native program, through LLVM alone."""
