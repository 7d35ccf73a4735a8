"""Fitted ranges on other bodies and cameras: hands, animals, children, sports, selfies."""
