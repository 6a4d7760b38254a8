"""Gateware of RPAccel in Amaranth, one module a hardware unit, and Verilog generation."""
