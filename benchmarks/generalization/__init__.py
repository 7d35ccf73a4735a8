"""In-domain and cross-dataset errors of estimators trained with and without the plugin."""
