"""The HTML report of a suite: one page that needs no other file."""
