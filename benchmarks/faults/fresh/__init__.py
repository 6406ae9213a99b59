"""The set that judges: programs written without a look at the rules."""
