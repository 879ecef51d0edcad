"""Suites: the runs behind one table, from a text file to the table."""
