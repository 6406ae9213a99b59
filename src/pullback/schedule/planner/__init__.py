"""A schedule that fits a byte budget at the least extra time, its peak known exactly."""
