"""Errors of estimators trained with and without the plugin."""
