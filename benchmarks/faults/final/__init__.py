"""The final set: unseen programs, written without a look at the rules."""
