"""Everything that touches the caller's model, optimizer, loader and processes."""
