"""Results on disk: made once, whole or not at all, found again by what they were made of."""
