"""The inference scheduler: which models rank how many items, and on which platform."""
