"""What a network costs on this device."""
