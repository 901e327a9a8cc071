"""Images: pictures from noise, from classes and from other pictures."""
