"""The learned part: augmentor networks, discriminators and feedback, used if `config.trains`."""
