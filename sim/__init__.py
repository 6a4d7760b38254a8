"""Simulation of RPAccel: helpers, memory and host models, simulator builds, testbenches."""
