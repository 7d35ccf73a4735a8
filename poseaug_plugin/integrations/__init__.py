"""One small file per framework; importing one imports its framework."""
