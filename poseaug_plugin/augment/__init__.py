"""All that makes a new pair without learning: whose pose, whose lengths, bends, views."""
