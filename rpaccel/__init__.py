"""RPAccel: multi-stage recommendation ranking, from a configuration file to exact hardware."""
