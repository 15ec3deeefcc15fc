"""What a run's record says: lineage, twins, insights."""
