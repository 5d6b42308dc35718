"""What every resource of the store needs of HTTP. Depends on no resource."""
