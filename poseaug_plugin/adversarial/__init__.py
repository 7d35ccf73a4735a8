"""What learns: augmentor, discriminators and feedback. `default` imports none of it."""
