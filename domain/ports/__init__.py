"""What the rules need from outside, as roles: one module for each group of roles. Adapters implement them."""
