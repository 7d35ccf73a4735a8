"""Time and memory that the plugin costs."""
