"""Images: pulled, named, listed, saved; and the layers they share."""
