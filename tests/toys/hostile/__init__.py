"""Files from strangers: valid ones that were changed, structured nonsense, and who reads them."""
