"""What machines cost in silicon: area and energy, block by block (`rpaccel bench area`)."""
