"""A run at work: begun, searched, resumed, its winner trained."""
