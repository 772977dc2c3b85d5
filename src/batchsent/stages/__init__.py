"""The stages of the data path, in its order. They share values, and never import one another."""
