"""Trained networks as C11 source for microcontrollers, in 8-bit integers; see `writing.write_c`."""
