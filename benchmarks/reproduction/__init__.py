"""The paper's four questions."""
