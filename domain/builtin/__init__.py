"""The built-in tasks: which there are, and which arguments they take. Pure."""
