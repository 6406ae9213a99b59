"""Whole steps of known networks, timed beside other libraries: `pullback bench`."""
