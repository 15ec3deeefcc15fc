"""What a network costs on this device: latency, memory and training time."""
