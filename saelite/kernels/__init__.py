"""What makes training fast: sparse products, the search for candidates, several processes."""
