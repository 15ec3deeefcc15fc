"""What a network costs on this device: latency and memory."""
