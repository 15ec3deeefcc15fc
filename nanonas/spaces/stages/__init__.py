"""Networks of stages: hand-made ones and what is bred from them."""
