"""Graph → Graph, the meaning kept to the bit: what stands between derivatives and kernels."""
