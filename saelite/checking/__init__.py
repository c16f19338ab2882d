"""Checking an SAE that somebody else trained, and planning a run."""
