"""What is wrong with images, before a search believes them."""
