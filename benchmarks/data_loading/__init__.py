"""Loading as many poses as Human3.6M has."""
