"""A job file for an input, from a look at it."""
