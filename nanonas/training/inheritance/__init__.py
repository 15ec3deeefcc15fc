"""Parents' weights in a child."""
