"""Golden model of RPAccel in NumPy, one module a hardware unit under the same name."""
