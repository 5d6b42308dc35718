"""HTTP to the outside world: to addresses that were checked, and to no others."""
