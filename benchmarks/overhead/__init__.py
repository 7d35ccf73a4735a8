"""What the plugin costs."""
