"""What touches the caller's own objects: model, optimizer, loader, processes."""
