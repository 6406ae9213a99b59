"""The programs, written as a user of this library writes them."""
